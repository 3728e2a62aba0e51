// Python in, kernels out: this file alone knows both. It checks every array's dtype, device, shape and strides,
// so that no call from Python can make a kernel read or write where it should not, and lets other Python
// threads run while a kernel works.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "array.h"
#include "lstm.h"
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
  if (a.dtype() != nb::dtype<T>())
    throw nb::type_error(
        (std::string(name) + ": expected dtype " + dtype_text(nb::dtype<T>()) + ", got " + dtype_text(a.dtype())).c_str());
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

template <class P, class Array>
Sequence<P> sequence(const char* name, const Array& a, const std::vector<idx>& shape) {
  check<std::remove_const_t<P>>(name, a, shape);
  if (a.size() && shape[2] > 1 && a.stride(2) != 1) refuse(name, "another stride", "stride 1 in the last dimension");
  return {a.template data<P>(), a.stride(0), a.stride(1)};
}

template <class P, class Array>
Sequence<P> sequence(const char* name, const std::optional<Array>& a, const std::vector<idx>& shape) {
  return a ? sequence<P>(name, *a, shape) : Sequence<P>{nullptr, 0, 0};
}

const std::int64_t* lengths(const OptionalIn& sizes, idx steps, idx batch) {
  const auto* p = contiguous<std::int64_t>("batch_sizes", sizes, {steps});
  for (idx t = 0; p && t < steps; ++t)
    if (p[t] < 0 || p[t] > (t ? p[t - 1] : batch))
      refuse("batch_sizes", std::to_string(p[t]) + " at step " + std::to_string(t),
             "non-increasing values between 0 and N = " + std::to_string(batch));
  return p;
}

Cell cell_of(const std::string& name) {
  if (name == "lstm") return Cell::lstm;
  if (name == "rnn") return Cell::rnn;
  refuse("cell", "'" + name + "'", "'lstm' or 'rnn'");
}

const Kernels& usable_kernels() {
  const Kernels* found = kernels();
  if (!found)
    throw nb::value_error("UNDERTOW_ISA: expected a level that this processor runs, of baseline, avx2, avx512");
  return *found;
}

// What forward and backward share.
template <class T>
void describe(Problem<T>& p, const std::string& cell, const In& x, const In& h_0, const OptionalIn& c_0,
              const In& weight_ih, const In& weight_hh, const OptionalIn& batch_sizes, bool reverse, int threads) {
  check_usable("h_0", h_0);
  if (x.ndim() != 3) refuse("x", "shape " + shape_text(shape_of(x)), "shape [T, N, C]");
  if (h_0.ndim() != 2 || h_0.shape(1) < 1) refuse("h_0", "shape " + shape_text(shape_of(h_0)), "shape [N, H], H >= 1");
  p.cell = cell_of(cell);
  p.steps = x.shape(0);
  p.batch = x.shape(1);
  p.input = x.shape(2);
  p.hidden = h_0.shape(1);
  if (threads < 1) refuse("threads", std::to_string(threads), "at least 1");
  if (c_0.has_value() != (p.cell == Cell::lstm)) refuse("c_0", c_0 ? "an array" : "None", "an array for the LSTM alone");
  const idx rows = gates_of(p.cell) * p.hidden;
  p.reverse = reverse;
  p.threads = threads;
  p.x = sequence<const T>("x", x, {p.steps, p.batch, p.input});
  p.h_0 = contiguous<T>("h_0", h_0, {p.batch, p.hidden});
  p.c_0 = contiguous<T>("c_0", c_0, {p.batch, p.hidden});
  p.weight_ih = contiguous<T>("weight_ih", weight_ih, {rows, p.input});
  p.weight_hh = contiguous<T>("weight_hh", weight_hh, {rows, p.hidden});
  p.batch_sizes = lengths(batch_sizes, p.steps, p.batch);
}

template <class T, class Array>
void check_tape(const Problem<T>& p, const std::optional<Array>& gates, const std::optional<Array>& c, bool needed) {
  const bool lstm = p.cell == Cell::lstm;
  if (gates.has_value() != c.has_value() || (gates && !lstm) || (needed && lstm && !gates))
    refuse("gates, c", gates ? (c ? "both" : "gates alone") : c ? "c alone" : "neither",
           !lstm ? "neither for the RNN" : needed ? "both" : "both or neither");
}

template <class T>
void run_forward(const std::string& cell, const In& x, const In& h_0, const OptionalIn& c_0, const In& weight_ih,
                 const In& weight_hh, const OptionalIn& bias_ih, const OptionalIn& bias_hh, const Out& y,
                 const Out& h_n, const OptionalOut& c_n, const OptionalOut& gates, const OptionalOut& c,
                 const OptionalIn& batch_sizes, bool reverse, int threads) {
  Forward<T> f;
  describe<T>(f, cell, x, h_0, c_0, weight_ih, weight_hh, batch_sizes, reverse, threads);
  const idx T_ = f.steps, N = f.batch, H = f.hidden, rows = gates_of(f.cell) * H;
  if (c_n.has_value() != c_0.has_value()) refuse("c_n", c_n ? "an array" : "None", "an array for the LSTM alone");
  check_tape(f, gates, c, false);
  f.bias_ih = contiguous<T>("bias_ih", bias_ih, {rows});
  f.bias_hh = contiguous<T>("bias_hh", bias_hh, {rows});
  f.y = sequence<T>("y", y, {T_, N, H});
  f.h_n = contiguous<T>("h_n", h_n, {N, H});
  f.c_n = contiguous<T>("c_n", c_n, {N, H});
  f.gates = contiguous<T>("gates", gates, {T_, N, 4, H});
  f.c = contiguous<T>("c", c, {T_ + 1, N, H});
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.forward_f32(f);
  else k.forward_f64(f);
}

template <class T>
void run_backward(const std::string& cell, const In& x, const In& h_0, const OptionalIn& c_0, const In& weight_ih,
                  const In& weight_hh, const In& y, const OptionalIn& gates, const OptionalIn& c,
                  const OptionalIn& dy, const OptionalIn& dh_n, const OptionalIn& dc_n, const OptionalOut& dx,
                  const OptionalOut& dh_0, const OptionalOut& dc_0, const OptionalOut& dweight_ih,
                  const OptionalOut& dweight_hh, const OptionalOut& dbias, const OptionalIn& batch_sizes,
                  bool reverse, int threads) {
  Backward<T> b;
  describe<T>(b, cell, x, h_0, c_0, weight_ih, weight_hh, batch_sizes, reverse, threads);
  const idx T_ = b.steps, N = b.batch, C = b.input, H = b.hidden, rows = gates_of(b.cell) * H;
  if (!c_0 && (dc_n || dc_0)) refuse("dc_n, dc_0", "an array", "None for the RNN");
  check_tape(b, gates, c, true);
  b.y = sequence<const T>("y", y, {T_, N, H});
  b.gates = contiguous<T>("gates", gates, {T_, N, 4, H});
  b.c = contiguous<T>("c", c, {T_ + 1, N, H});
  b.dy = sequence<const T>("dy", dy, {T_, N, H});
  b.dh_n = contiguous<T>("dh_n", dh_n, {N, H});
  b.dc_n = contiguous<T>("dc_n", dc_n, {N, H});
  b.dx = sequence<T>("dx", dx, {T_, N, C});
  b.dh_0 = contiguous<T>("dh_0", dh_0, {N, H});
  b.dc_0 = contiguous<T>("dc_0", dc_0, {N, H});
  b.dweight_ih = contiguous<T>("dweight_ih", dweight_ih, {rows, C});
  b.dweight_hh = contiguous<T>("dweight_hh", dweight_hh, {rows, H});
  b.dbias = contiguous<T>("dbias", dbias, {rows});
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.backward_f32(b);
  else k.backward_f64(b);
}

[[noreturn]] void refuse_dtype(const In& x) {
  throw nb::type_error(("x: expected dtype float32 or float64, got " + dtype_text(x.dtype())).c_str());
}

template <class... Args>
void forward(const std::string& cell, const In& x, const Args&... args) {
  check_usable("x", x);
  if (x.dtype() == nb::dtype<float>()) return run_forward<float>(cell, x, args...);
  if (x.dtype() == nb::dtype<double>()) return run_forward<double>(cell, x, args...);
  refuse_dtype(x);
}

template <class... Args>
void backward(const std::string& cell, const In& x, const Args&... args) {
  check_usable("x", x);
  if (x.dtype() == nb::dtype<float>()) return run_backward<float>(cell, x, args...);
  if (x.dtype() == nb::dtype<double>()) return run_backward<double>(cell, x, args...);
  refuse_dtype(x);
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
  refuse_dtype(x);
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
        forward<In, OptionalIn, In, In, OptionalIn, OptionalIn, Out, Out, OptionalOut, OptionalOut, OptionalOut,
                OptionalIn, bool, int>,
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("bias_ih").none(), nb::arg("bias_hh").none(), nb::arg("y").none(), nb::arg("h_n").none(),
        nb::arg("c_n").none(), nb::arg("gates").none(), nb::arg("c").none(), nb::arg("batch_sizes").none(),
        nb::arg("reverse"), nb::arg("threads"));
  m.def("backward",
        backward<In, OptionalIn, In, In, In, OptionalIn, OptionalIn, OptionalIn, OptionalIn, OptionalIn, OptionalOut,
                 OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalIn, bool, int>,
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("y").none(), nb::arg("gates").none(), nb::arg("c").none(), nb::arg("dy").none(),
        nb::arg("dh_n").none(), nb::arg("dc_n").none(), nb::arg("dx").none(), nb::arg("dh_0").none(),
        nb::arg("dc_0").none(), nb::arg("dweight_ih").none(), nb::arg("dweight_hh").none(), nb::arg("dbias").none(),
        nb::arg("batch_sizes").none(), nb::arg("reverse"), nb::arg("threads"));
  m.def("isa", [] { return usable_kernels().name; });
  m.def("isa_levels", [] {
    nb::list found;
    for (const char* name : {"baseline", "avx2", "avx512"})
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
}
