// Python in, kernels out: this file alone knows both. It checks every array's dtype, device, shape and strides,
// so that no call from Python can make a kernel read or write where it should not, and lets other Python
// threads run while a kernel works.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "array.h"
#include "lstm.h"
#include "machine.h"
#include "scratch.h"
#include "threads.h"

using namespace undertow;

namespace {

using OptionalIn = std::optional<In>;
using OptionalOut = std::optional<Out>;

std::string shape_text(const std::vector<idx>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

template <class Array>
std::vector<idx> shape_of(const Array& a) {
  std::vector<idx> shape;
  for (idx i = 0; i < a.ndim(); ++i) shape.push_back(a.shape(i));
  return shape;
}

[[noreturn]] void refuse(const char* name, const std::string& given, const std::string& expected) {
  throw nb::value_error((std::string(name) + ": expected " + expected + ", got " + given).c_str());
}

std::string dtype_text(nb::dlpack::dtype d) {
  using Code = nb::dlpack::dtype_code;
  const char* kinds[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  const bool known = d.code <= static_cast<std::uint8_t>(Code::Bool);
  return (known ? kinds[d.code] : "dtype") + std::to_string(d.bits);
}

template <class T>
nb::dlpack::dtype dtype_of() {
  if constexpr (std::is_same_v<T, bf16>) return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
  else return nb::dtype<T>();
}

template <class Array>
void check_usable(const char* name, const Array& a) {
  if (!a.usable())
    throw nb::type_error((std::string(name) + ": expected an array on the CPU in native byte order" +
                          (std::is_same_v<Array, Out> ? ", writable" : "") + ", got " + a.type())
                             .c_str());
}

template <class T, class Array>
void check(const char* name, const Array& a, const std::vector<idx>& shape) {
  check_usable(name, a);
  if (a.dtype() != dtype_of<T>())
    throw nb::type_error(
        (std::string(name) + ": expected dtype " + dtype_text(dtype_of<T>()) + ", got " + dtype_text(a.dtype())).c_str());
  if (shape_of(a) != shape) refuse(name, "shape " + shape_text(shape_of(a)), "shape " + shape_text(shape));
  if (a.size() && reinterpret_cast<std::uintptr_t>(a.template data<const char>()) % alignof(T))
    refuse(name, "an address between two", "elements aligned to their size");
}

template <class T, class Array>
auto contiguous(const char* name, const Array& a, const std::vector<idx>& shape) {
  check<T>(name, a, shape);
  idx stride = 1;
  for (idx i = a.ndim(); i-- > 0; stride *= shape[i])
    if (a.size() && shape[i] > 1 && a.stride(i) != stride) refuse(name, "a strided one", "a contiguous array");
  return a.template data<std::conditional_t<std::is_same_v<Array, In>, const T, T>>();
}

template <class T, class Array>
auto contiguous(const char* name, const std::optional<Array>& a, const std::vector<idx>& shape) {
  using P = decltype(contiguous<T>(name, *a, shape));
  return a ? contiguous<T>(name, *a, shape) : P(nullptr);
}

// Sequences of different lengths, ranked: the tables that lstm.h asks for. Empty where nothing is said of lengths.
struct Tables {
  std::vector<std::int64_t> batch_sizes, starts, order;
  bool packed = false;

  bool ragged() const { return !starts.empty(); }
  idx rows() const { return static_cast<idx>(starts.back()); }

  // starts, from batch_sizes
  void count() {
    starts.assign(1, 0);
    for (std::int64_t n : batch_sizes) starts.push_back(starts.back() + n);
  }

  // of padded sequences, in any order
  void rank(const std::int64_t* lengths, idx steps, idx batch) {
    order.resize(static_cast<std::size_t>(batch));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return lengths[a] > lengths[b]; });
    batch_sizes.resize(static_cast<std::size_t>(steps));
    idx active = batch;
    for (idx t = 0; t < steps; ++t) {
      while (active > 0 && lengths[order[static_cast<std::size_t>(active - 1)]] <= t) --active;
      batch_sizes[static_cast<std::size_t>(t)] = active;
    }
    count();
  }
};

// [N,H], or [1,N,H] as a module of one layer and direction has its states.
template <class T, class Array>
auto state(const char* name, const std::optional<Array>& a, idx batch, idx hidden) {
  const bool stacked = a && a->ndim() == 3;
  return contiguous<T>(name, a, stacked ? std::vector<idx>{1, batch, hidden} : std::vector<idx>{batch, hidden});
}

template <class P>
Sequence<P> along(const Tables& tables, P* data, idx step, idx row) {
  const bool padded = !tables.packed && !tables.order.empty();
  return {data, step, row, padded ? tables.order.data() : nullptr, tables.packed ? tables.starts.data() : nullptr};
}

// A row of features for each step and sequence: [T,N,features], or [R,features] where packed.
template <class P, class Array>
Sequence<P> sequence(const char* name, const Array& a, const Problem<std::remove_const_t<P>>& p, const Tables& tables,
                     idx features) {
  const idx last = tables.packed ? 1 : 2;
  check<std::remove_const_t<P>>(
      name, a, tables.packed ? std::vector<idx>{tables.rows(), features} : std::vector<idx>{p.steps, p.batch, features});
  if (a.size() && features > 1 && a.stride(last) != 1) refuse(name, "another stride", "stride 1 in the last dimension");
  return along(tables, a.template data<P>(), tables.packed ? 0 : a.stride(0), a.stride(last - 1));
}

template <class P, class Array>
Sequence<P> given_sequence(const char* name, const std::optional<Array>& a, const Problem<std::remove_const_t<P>>& p,
                           const Tables& tables, idx features) {
  return a ? sequence<P>(name, *a, p, tables, features) : along<P>(tables, nullptr, 0, 0);
}

// The shape of an array with a row for each step and sequence, in the tape's order.
template <class T>
std::vector<idx> tape_shape(const Problem<T>& p, const Tables& tables, std::initializer_list<idx> row) {
  std::vector<idx> shape{p.steps, p.batch};
  if (tables.ragged()) shape = {tables.rows()};
  shape.insert(shape.end(), row);
  return shape;
}

void read_lengths(Tables& tables, const In& lengths, idx steps, idx batch) {
  const auto* p = contiguous<std::int64_t>("lengths", lengths, {batch});
  for (idx n = 0; n < batch; ++n)
    if (p[n] < 0 || p[n] > steps)
      refuse("lengths", std::to_string(p[n]) + " for sequence " + std::to_string(n),
             "values between 0 and T = " + std::to_string(steps));
  tables.rank(p, steps, batch);
}

void read_packing(Tables& tables, const In& batch_sizes, const OptionalIn& order) {
  check_usable("batch_sizes", batch_sizes);
  if (batch_sizes.ndim() != 1) refuse("batch_sizes", "shape " + shape_text(shape_of(batch_sizes)), "shape [T]");
  const idx steps = batch_sizes.shape(0);
  const auto* p = contiguous<std::int64_t>("batch_sizes", batch_sizes, {steps});
  for (idx t = 0; t < steps; ++t)
    if (p[t] < 0 || p[t] > (t ? p[t - 1] : std::int64_t{1} << 40))
      refuse("batch_sizes", std::to_string(p[t]) + " at step " + std::to_string(t), "non-increasing values from N to 0");
  tables.packed = true;
  tables.batch_sizes.assign(p, p + steps);
  tables.count();
  if (!order) return;
  const idx batch = steps ? static_cast<idx>(p[0]) : 0;
  const auto* o = contiguous<std::int64_t>("order", *order, {batch});
  std::vector<bool> seen(static_cast<std::size_t>(batch));
  for (idx n = 0; n < batch; ++n) {
    if (o[n] < 0 || o[n] >= batch || seen[static_cast<std::size_t>(o[n])])
      refuse("order", std::to_string(o[n]) + " at " + std::to_string(n),
             "each of 0 to N - 1 once, N = " + std::to_string(batch));
    seen[static_cast<std::size_t>(o[n])] = true;
  }
  tables.order.assign(o, o + batch);
}

Cell cell_of(const std::string& name) {
  if (name == "lstm") return Cell::lstm;
  if (name == "rnn") return Cell::rnn;
  refuse("cell", "'" + name + "'", "'lstm' or 'rnn'");
}

const Kernels& usable_kernels() {
  const Kernels* found = kernels();
  if (!found)
    throw nb::value_error("UNDERTOW_ISA: expected a level that this processor runs, of baseline, avx2, avx512, avx512bf16");
  return *found;
}

// What forward and backward share.
template <class T>
void describe_problem(Problem<T>& p, Tables& tables, const std::string& cell, const In& x, const OptionalIn& h_0,
              const OptionalIn& c_0, const In& weight_ih, const In& weight_hh, const OptionalIn& lengths,
              const OptionalIn& batch_sizes, const OptionalIn& order, bool reverse, int threads) {
  check_usable("weight_hh", weight_hh);
  if (x.ndim() != (batch_sizes ? 2 : 3))
    refuse("x", "shape " + shape_text(shape_of(x)), batch_sizes ? "shape [R, C] with batch_sizes" : "shape [T, N, C]");
  if (weight_hh.ndim() != 2 || weight_hh.shape(1) < 1)
    refuse("weight_hh", "shape " + shape_text(shape_of(weight_hh)), "shape [G*H, H], H >= 1");
  p.cell = cell_of(cell);
  if (batch_sizes && lengths) refuse("lengths", "an array", "None with batch_sizes");
  if (order && !batch_sizes) refuse("order", "an array", "None without batch_sizes");
  if (batch_sizes) read_packing(tables, *batch_sizes, order);
  p.batch = batch_sizes ? (tables.batch_sizes.empty() ? 0 : static_cast<idx>(tables.batch_sizes[0])) : x.shape(1);
  if (lengths) read_lengths(tables, *lengths, x.shape(0), p.batch);
  p.steps = tables.packed ? static_cast<idx>(tables.batch_sizes.size()) : x.shape(0);
  p.batch_sizes = tables.ragged() ? tables.batch_sizes.data() : nullptr;
  p.starts = tables.ragged() ? tables.starts.data() : nullptr;
  p.order = tables.order.empty() ? nullptr : tables.order.data();
  p.input = x.shape(x.ndim() - 1);
  p.hidden = weight_hh.shape(1);
  if (threads < 1) refuse("threads", std::to_string(threads), "at least 1");
  if (c_0 && p.cell != Cell::lstm) refuse("c_0", "an array", "None for the RNN");
  const idx rows = gates_of(p.cell) * p.hidden;
  p.reverse = reverse;
  p.threads = threads;
  p.x = sequence<const T>("x", x, p, tables, p.input);
  p.h_0 = state<T>("h_0", h_0, p.batch, p.hidden);
  p.c_0 = state<T>("c_0", c_0, p.batch, p.hidden);
  p.weight_ih = contiguous<T>("weight_ih", weight_ih, {rows, p.input});
  p.weight_hh = contiguous<T>("weight_hh", weight_hh, {rows, p.hidden});
}

// The tape's two arrays, here both and for the LSTM, or neither.
template <class T, class Array>
auto tape(const Problem<T>& p, const Tables& tables, const std::optional<Array>& gates, const std::optional<Array>& c,
          bool needed) {
  const bool lstm = p.cell == Cell::lstm;
  if (gates.has_value() != c.has_value() || (gates && !lstm) || (needed && lstm && !gates))
    refuse("gates, c", gates ? (c ? "both" : "gates alone") : c ? "c alone" : "neither",
           !lstm ? "neither for the RNN" : needed ? "both" : "both or neither");
  const std::vector<idx> c_shape = tables.ragged() ? std::vector<idx>{p.batch + tables.rows(), p.hidden}
                                                 : std::vector<idx>{p.steps + 1, p.batch, p.hidden};
  return std::pair(contiguous<T>("gates", gates, tape_shape(p, tables, {4, p.hidden})), contiguous<Real<T>>("c", c, c_shape));
}

[[noreturn]] void refuse_dtype(const In& x, const char* expected) {
  throw nb::type_error((std::string("x: expected dtype ") + expected + ", got " + dtype_text(x.dtype())).c_str());
}

// Calls as(T()) with x's type.
template <class F>
void with_dtype(const In& x, F&& as) {
  check_usable("x", x);
  if (x.dtype() == nb::dtype<float>()) return as(float());
  if (x.dtype() == nb::dtype<double>()) return as(double());
  if (x.dtype() == dtype_of<bf16>()) return as(bf16());
  refuse_dtype(x, "float32, float64 or bfloat16");
}

// Hands a problem to the kernel of its type, and lets other Python threads run meanwhile.
template <class T>
void run(const Forward<T>& f) {
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.forward_f32(f);
  else if constexpr (std::is_same_v<T, double>) k.forward_f64(f);
  else k.forward_bf16(f);
}

template <class T>
void run(const Backward<T>& b) {
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.backward_f32(b);
  else if constexpr (std::is_same_v<T, double>) k.backward_f64(b);
  else k.backward_bf16(b);
}

template <class T>
void describe(Forward<T>& f, Tables& tables, const std::string& cell, const In& x, const OptionalIn& h_0,
              const OptionalIn& c_0, const In& weight_ih, const In& weight_hh, const OptionalIn& bias_ih,
              const OptionalIn& bias_hh, const Out& y, const OptionalOut& h_n, const OptionalOut& c_n,
              const OptionalOut& gates, const OptionalOut& c, const OptionalIn& lengths, const OptionalIn& batch_sizes,
              const OptionalIn& order, bool reverse, int threads) {
  describe_problem<T>(f, tables, cell, x, h_0, c_0, weight_ih, weight_hh, lengths, batch_sizes, order, reverse, threads);
  const idx N = f.batch, H = f.hidden, rows = gates_of(f.cell) * H;
  if (c_n.has_value() != (f.cell == Cell::lstm)) refuse("c_n", c_n ? "an array" : "None", "an array for the LSTM alone");
  std::tie(f.gates, f.c) = tape(f, tables, gates, c, false);
  f.bias_ih = contiguous<T>("bias_ih", bias_ih, {rows});
  f.bias_hh = contiguous<T>("bias_hh", bias_hh, {rows});
  f.y = sequence<T>("y", y, f, tables, H);
  f.h_n = state<T>("h_n", h_n, N, H);
  f.c_n = state<T>("c_n", c_n, N, H);
}

template <class T>
void describe(Backward<T>& b, Tables& tables, const std::string& cell, const In& x, const OptionalIn& h_0,
              const OptionalIn& c_0, const In& weight_ih, const In& weight_hh, const In& y, const OptionalIn& gates,
              const OptionalIn& c, const OptionalIn& dy, const OptionalIn& dh_n, const OptionalIn& dc_n,
              const OptionalOut& dx, const OptionalOut& dh_0, const OptionalOut& dc_0, const OptionalOut& dweight_ih,
              const OptionalOut& dweight_hh, const OptionalOut& dbias, const OptionalOut& dgates, const OptionalOut& dh,
              const OptionalOut& dc, const OptionalIn& lengths, const OptionalIn& batch_sizes, const OptionalIn& order,
              bool reverse, int threads) {
  describe_problem<T>(b, tables, cell, x, h_0, c_0, weight_ih, weight_hh, lengths, batch_sizes, order, reverse, threads);
  const idx N = b.batch, C = b.input, H = b.hidden, G = gates_of(b.cell), rows = G * H;
  if (b.cell == Cell::rnn && (dc_n || dc_0 || dc)) refuse("dc_n, dc_0, dc", "an array", "None for the RNN");
  std::tie(b.gates, b.c) = tape(b, tables, gates, c, true);
  b.y = sequence<const T>("y", y, b, tables, H);
  b.dy = given_sequence<const T>("dy", dy, b, tables, H);
  b.dh_n = state<T>("dh_n", dh_n, N, H);
  b.dc_n = state<T>("dc_n", dc_n, N, H);
  b.dx = given_sequence<T>("dx", dx, b, tables, C);
  b.dh_0 = state<T>("dh_0", dh_0, N, H);
  b.dc_0 = state<T>("dc_0", dc_0, N, H);
  b.dweight_ih = contiguous<T>("dweight_ih", dweight_ih, {rows, C});
  b.dweight_hh = contiguous<T>("dweight_hh", dweight_hh, {rows, H});
  b.dbias = contiguous<T>("dbias", dbias, {rows});
  b.dgates = contiguous<T>("dgates", dgates, tape_shape(b, tables, {G, H}));
  b.dh = contiguous<T>("dh", dh, tape_shape(b, tables, {H}));
  b.dc = contiguous<T>("dc", dc, tape_shape(b, tables, {H}));
}

template <template <class> class Pass, class... Args>
void run_pass(const std::string& cell, const In& x, const Args&... args) {
  with_dtype(x, [&]<class T>(T) {
    Pass<T> pass;
    Tables tables;
    describe<T>(pass, tables, cell, x, args...);
    run(pass);
  });
}

// ------------------------------------------------------------------------------------------ variants

template <class T>
void run(const VariedForward<T>& f) {
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.varied_forward_f32(f);
  else k.varied_forward_f64(f);
}

template <class T>
void run(const VariedBackward<T>& b) {
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.varied_backward_f32(b);
  else k.varied_backward_f64(b);
}

template <class T>
const std::uint8_t* flags(const char* name, const OptionalIn& a, const Problem<T>& p, const Tables& tables) {
  if (!a) return nullptr;
  if (tables.packed) refuse(name, "an array", "None with batch_sizes");
  return reinterpret_cast<const std::uint8_t*>(contiguous<bool>(name, *a, {p.steps, p.batch}));
}

template <class T>
void describe_variant(Variant<T>& v, const Problem<T>& p, const Tables& tables, const OptionalIn& mask,
                      const OptionalIn& reset, const OptionalIn& h_reset, const OptionalIn& c_reset,
                      const OptionalIn& recurrent, const OptionalIn& zoneout_h, const OptionalIn& zoneout_c,
                      const OptionalIn& peepholes, bool coupled, const OptionalIn& gain_x,
                      const OptionalIn& gain_h, const OptionalIn& gain_c, const OptionalIn& bias_c) {
  const idx N = p.batch, H = p.hidden;
  if (p.cell != Cell::lstm) refuse("cell", "'rnn'", "'lstm' for a variant");
  v.mask = flags("mask", mask, p, tables);
  v.reset = flags("reset", reset, p, tables);
  v.h_reset = contiguous<T>("h_reset", h_reset, {N, H});
  v.c_reset = contiguous<T>("c_reset", c_reset, {N, H});
  v.recurrent = contiguous<T>("recurrent", recurrent, {N, H});
  v.zoneout_h = given_sequence<const T>("zoneout_h", zoneout_h, p, tables, H);
  v.zoneout_c = given_sequence<const T>("zoneout_c", zoneout_c, p, tables, H);
  v.peepholes = contiguous<T>("peepholes", peepholes, {3, H});
  v.coupled = coupled;
  const bool norms = gain_x.has_value();
  if (gain_h.has_value() != norms || gain_c.has_value() != norms || bias_c.has_value() != norms)
    refuse("gain_x, gain_h, gain_c, bias_c", "some of them", "all or none");
  v.gain_x = contiguous<T>("gain_x", gain_x, {4 * H});
  v.gain_h = contiguous<T>("gain_h", gain_h, {4 * H});
  v.gain_c = contiguous<T>("gain_c", gain_c, {H});
  v.bias_c = contiguous<T>("bias_c", bias_c, {H});
}

// The tape of norms: both arrays or neither, and both where the pass needs them. Without rows no pass does, and gates is null.
template <class T, class Array>
auto normed_tape(const Problem<T>& p, const Variant<T>& v, const Tables& tables, const std::optional<Array>& normed,
                 const std::optional<Array>& scale, bool taped) {
  const bool rowless = tables.ragged() ? tables.rows() == 0 : p.steps * p.batch == 0;
  const bool expected = v.gain_x && (rowless ? normed.has_value() : taped);
  if (normed.has_value() != expected || scale.has_value() != expected)
    refuse("normed, scale", normed || scale ? "an array" : "None", expected ? "both" : "None without norms and a tape");
  return std::pair(contiguous<T>("normed", normed, tape_shape(p, tables, {2, 4, p.hidden})),
                   contiguous<T>("scale", scale, tape_shape(p, tables, {2})));
}

// The variant's own arguments come before those that the LSTM has anyway.
template <class... Args>
void varied_forward(const OptionalIn& mask, const OptionalIn& reset, const OptionalIn& h_reset, const OptionalIn& c_reset,
                    const OptionalIn& recurrent, const OptionalIn& zoneout_h, const OptionalIn& zoneout_c,
                    const OptionalIn& peepholes, bool coupled, const OptionalIn& gain_x, const OptionalIn& gain_h,
                    const OptionalIn& gain_c, const OptionalIn& bias_c, const OptionalOut& normed, const OptionalOut& scale,
                    const std::string& cell, const In& x, const Args&... args) {
  with_dtype(x, [&]<class T>(T) {
    if constexpr (std::is_same_v<T, bf16>) refuse_dtype(x, "float32 or float64 for a variant");
    else {
      VariedForward<T> f;
      Tables tables;
      describe<T>(f, tables, cell, x, args...);
      describe_variant<T>(f.variant, f, tables, mask, reset, h_reset, c_reset, recurrent, zoneout_h, zoneout_c, peepholes,
                          coupled, gain_x, gain_h, gain_c, bias_c);
      std::tie(f.normed, f.scale) = normed_tape<T>(f, f.variant, tables, normed, scale, f.gates);
      run(f);
    }
  });
}

template <class... Args>
void varied_backward(const OptionalIn& mask, const OptionalIn& reset, const OptionalIn& h_reset, const OptionalIn& c_reset,
                     const OptionalIn& recurrent, const OptionalIn& zoneout_h, const OptionalIn& zoneout_c,
                     const OptionalIn& peepholes, bool coupled, const OptionalIn& gain_x, const OptionalIn& gain_h,
                     const OptionalIn& gain_c, const OptionalIn& bias_c, const OptionalIn& normed, const OptionalIn& scale,
                     const OptionalOut& dh_reset, const OptionalOut& dc_reset, const OptionalOut& dpeepholes,
                     const OptionalOut& dgain_x, const OptionalOut& dgain_h, const OptionalOut& dgain_c,
                     const OptionalOut& dbias_c, const std::string& cell, const In& x, const Args&... args) {
  with_dtype(x, [&]<class T>(T) {
    if constexpr (std::is_same_v<T, bf16>) refuse_dtype(x, "float32 or float64 for a variant");
    else {
      VariedBackward<T> b;
      Tables tables;
      describe<T>(b, tables, cell, x, args...);
      describe_variant<T>(b.variant, b, tables, mask, reset, h_reset, c_reset, recurrent, zoneout_h, zoneout_c, peepholes,
                          coupled, gain_x, gain_h, gain_c, bias_c);
      std::tie(b.normed, b.scale) = normed_tape<T>(b, b.variant, tables, normed, scale, true);
      const idx N = b.batch, H = b.hidden;
      const bool sums = dgain_x.has_value();
      if (dgain_h.has_value() != sums || dgain_c.has_value() != sums || dbias_c.has_value() != sums || (sums && !b.variant.gain_x))
        refuse("dgain_x, dgain_h, dgain_c, dbias_c", "some of them, or no norms", "all or none, and norms with them");
      if (b.variant.gain_x && b.dbias && !sums) refuse("dbias", "an array", "None with norms and without their gradients");
      if (dpeepholes && !peepholes) refuse("dpeepholes", "an array", "None without peepholes");
      b.dh_reset = contiguous<T>("dh_reset", dh_reset, {N, H});
      b.dc_reset = contiguous<T>("dc_reset", dc_reset, {N, H});
      b.dpeepholes = contiguous<T>("dpeepholes", dpeepholes, {3, H});
      b.dgain_x = contiguous<T>("dgain_x", dgain_x, {4 * H});
      b.dgain_h = contiguous<T>("dgain_h", dgain_h, {4 * H});
      b.dgain_c = contiguous<T>("dgain_c", dgain_c, {H});
      b.dbias_c = contiguous<T>("dbias_c", dbias_c, {H});
      run(b);
    }
  });
}

template <class T>
void apply(void (*function)(const T*, T*, idx), const In& x, const Out& y) {
  const idx n = x.size();
  function(contiguous<T>("x", x, {n}), contiguous<T>("y", y, {n}), n);
}

void apply(void (*f32)(const float*, float*, idx), void (*f64)(const double*, double*, idx), const In& x,
           const Out& y) {
  check_usable("x", x);
  if (x.dtype() == nb::dtype<float>()) return apply<float>(f32, x, y);
  if (x.dtype() == nb::dtype<double>()) return apply<double>(f64, x, y);
  refuse_dtype(x, "float32 or float64");
}

double measured_peak(int threads, double seconds) {
  if (threads < 1) refuse("threads", std::to_string(threads), "at least 1");
  if (!(seconds > 0)) refuse("seconds", std::to_string(seconds), "more than 0");
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  return fma_peak(k, threads, seconds);
}

double measured_handover(int rounds) {
  if (rounds < 1) refuse("rounds", std::to_string(rounds), "at least 1");
  nb::gil_scoped_release unlocked;
  return handover(rounds);
}

// A tensor [count], not initialised, in memory that goes back to the pool when the last tensor over it dies.
using Tensor = nb::ndarray<nb::pytorch, nb::device::cpu, nb::ndim<1>>;

Tensor pooled(idx count, nb::dlpack::dtype dtype) {
  struct Loan {
    void* data;
    std::size_t bytes;
  };
  if (count < 0) refuse("count", std::to_string(count), "at least 0");
  const std::size_t bytes = static_cast<std::size_t>(count) * dtype.bits / 8, shape[] = {static_cast<std::size_t>(count)};
  auto* loan = new Loan{scratch_take(bytes), bytes};
  nb::capsule owner(loan, [](void* p) noexcept {
    auto* done = static_cast<Loan*>(p);
    scratch_give(done->data, done->bytes);
    delete done;
  });
  return Tensor(loan->data, 1, shape, owner, nullptr, dtype);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The CPU kernels. See native/lstm.h for the contract; undertow.kernels.native is the way in.";
  m.def("forward",
        run_pass<Forward, OptionalIn, OptionalIn, In, In, OptionalIn, OptionalIn, Out, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("bias_ih").none(),
        nb::arg("bias_hh").none(), nb::arg("y").none(), nb::arg("h_n").none(), nb::arg("c_n").none(),
        nb::arg("gates").none(), nb::arg("c").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(),
        nb::arg("order").none(), nb::arg("reverse"), nb::arg("threads"));
  m.def("backward",
        run_pass<Backward, OptionalIn, OptionalIn, In, In, In, OptionalIn, OptionalIn, OptionalIn, OptionalIn,
        OptionalIn, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("y").none(), nb::arg("gates").none(),
        nb::arg("c").none(), nb::arg("dy").none(), nb::arg("dh_n").none(), nb::arg("dc_n").none(),
        nb::arg("dx").none(), nb::arg("dh_0").none(), nb::arg("dc_0").none(), nb::arg("dweight_ih").none(),
        nb::arg("dweight_hh").none(), nb::arg("dbias").none(), nb::arg("dgates").none(), nb::arg("dh").none(),
        nb::arg("dc").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(), nb::arg("order").none(),
        nb::arg("reverse"), nb::arg("threads"));
  m.def("varied_forward",
        varied_forward<OptionalIn, OptionalIn, In, In, OptionalIn, OptionalIn, Out, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("mask").none(), nb::arg("reset").none(), nb::arg("h_reset").none(), nb::arg("c_reset").none(),
        nb::arg("recurrent").none(), nb::arg("zoneout_h").none(), nb::arg("zoneout_c").none(),
        nb::arg("peepholes").none(), nb::arg("coupled"), nb::arg("gain_x").none(), nb::arg("gain_h").none(), nb::arg("gain_c").none(),
        nb::arg("bias_c").none(), nb::arg("normed").none(), nb::arg("scale").none(),
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("bias_ih").none(),
        nb::arg("bias_hh").none(), nb::arg("y").none(), nb::arg("h_n").none(), nb::arg("c_n").none(),
        nb::arg("gates").none(), nb::arg("c").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(),
        nb::arg("order").none(), nb::arg("reverse"), nb::arg("threads"));
  m.def("varied_backward",
        varied_backward<OptionalIn, OptionalIn, In, In, In, OptionalIn, OptionalIn, OptionalIn, OptionalIn,
        OptionalIn, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("mask").none(), nb::arg("reset").none(), nb::arg("h_reset").none(), nb::arg("c_reset").none(),
        nb::arg("recurrent").none(), nb::arg("zoneout_h").none(), nb::arg("zoneout_c").none(),
        nb::arg("peepholes").none(), nb::arg("coupled"), nb::arg("gain_x").none(), nb::arg("gain_h").none(), nb::arg("gain_c").none(),
        nb::arg("bias_c").none(), nb::arg("normed").none(), nb::arg("scale").none(),
        nb::arg("dh_reset").none(), nb::arg("dc_reset").none(), nb::arg("dpeepholes").none(),
        nb::arg("dgain_x").none(), nb::arg("dgain_h").none(), nb::arg("dgain_c").none(), nb::arg("dbias_c").none(),
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("y").none(), nb::arg("gates").none(),
        nb::arg("c").none(), nb::arg("dy").none(), nb::arg("dh_n").none(), nb::arg("dc_n").none(),
        nb::arg("dx").none(), nb::arg("dh_0").none(), nb::arg("dc_0").none(), nb::arg("dweight_ih").none(),
        nb::arg("dweight_hh").none(), nb::arg("dbias").none(), nb::arg("dgates").none(), nb::arg("dh").none(),
        nb::arg("dc").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(), nb::arg("order").none(),
        nb::arg("reverse"), nb::arg("threads"));
  m.def("isa", [] { return usable_kernels().name; });
  m.def("isa_levels", [] {
    nb::list found;
    for (const char* name : {"baseline", "avx2", "avx512", "avx512bf16"})
      if (kernels(name)) found.append(name);
    return found;
  });
  m.def("share_openmp", [] { return share_openmp(); });
  m.def("pooled", [](idx count, bool wide) { return pooled(count, wide ? nb::dtype<double>() : nb::dtype<float>()); },
        nb::arg("count"), nb::arg("wide"));
  m.def("release_scratch", [] { scratch_release(); });
  m.def("sigmoid", [](const In& x, const Out& y) {
    apply(usable_kernels().sigmoid_f32, usable_kernels().sigmoid_f64, x, y);
  });
  m.def("tanh", [](const In& x, const Out& y) { apply(usable_kernels().tanh_f32, usable_kernels().tanh_f64, x, y); });
  m.def("fma_peak", measured_peak, nb::arg("threads"), nb::arg("seconds"));
  m.def("handover", measured_handover, nb::arg("rounds"));
}
