// One layer's call of the kernels, from what Python gives: the problems of lstm.h, described and run.
#pragma once
#include "arguments.h"

namespace undertow {
namespace {

// What both passes are given.
struct Given {
  nb::handle cell, x;
  Items states, weights, tape, ragged;
  Options options;
  bool reverse;
  int threads;
};

struct ForwardGiven : Given {
  Items outputs;
};

struct BackwardGiven : Given {
  nb::handle y;
  Items douts, dins, dsteps;
  OptionGradients doptions;
};

bool is_symbols(const In& x) { return x.dtype() == nb::dtype<std::int64_t>(); }

Cell cell_of(nb::handle cell) {
  if (!PyUnicode_Check(cell.ptr())) refuse_type("cell", type_of(cell), "'lstm' or 'rnn'");
  if (PyUnicode_CompareWithASCIIString(cell.ptr(), "lstm") == 0) return Cell::lstm;
  if (PyUnicode_CompareWithASCIIString(cell.ptr(), "rnn") == 0) return Cell::rnn;
  refuse("cell", nb::repr(cell).c_str(), "'lstm' or 'rnn'");
}

void refuse_for_rnn(const char* name, nb::handle object) {
  if (!absent(object)) refuse(name, "an array", "None for the RNN");
}

// T, N, C and H, read off x and weight_hh, and the sequences' lengths.
template <class T>
void describe_sizes(Problem<T>& p, Call& call, const In& x, const Given& g) {
  const nb::handle lengths = g.ragged[0], batch_sizes = g.ragged[1], order = g.ragged[2];
  const bool packed = !absent(batch_sizes);
  const In weight_hh(g.weights[1], call.held);
  check_usable("weight_hh", weight_hh);
  if (x.ndim() != (packed ? 2 : 3))
    refuse("x", shape_of(x), packed ? "shape [R, C] with batch_sizes" : "shape [T, N, C]");
  if (weight_hh.ndim() != 2 || weight_hh.shape(1) < 1) refuse("weight_hh", shape_of(weight_hh), "shape [G*H, H], H >= 1");
  Tables& tables = call.tables;
  if (packed && !absent(lengths)) refuse("lengths", "an array", "None with batch_sizes");
  if (!packed && !absent(order)) refuse("order", "an array", "None without batch_sizes");
  if (packed) read_packing(call, batch_sizes, order);
  p.batch = !packed ? x.shape(1) : tables.batch_sizes.empty() ? 0 : static_cast<idx>(tables.batch_sizes[0]);
  if (!absent(lengths)) read_lengths(call, lengths, x.shape(0), p.batch);
  p.steps = packed ? static_cast<idx>(tables.batch_sizes.size()) : x.shape(0);
  p.batch_sizes = tables.ragged() ? tables.batch_sizes.data() : nullptr;
  p.starts = tables.ragged() ? tables.starts.data() : nullptr;
  p.order = tables.order.empty() ? nullptr : tables.order.data();
  p.input = is_symbols(x) ? 0 : x.shape(x.ndim() - 1);
  p.hidden = weight_hh.shape(1);
}

// In place of x: a symbol for each step and sequence, which chooses a column of weight_ih.
template <class T>
void describe_symbols(Problem<T>& p, Call& call, const In& x, const Given& g) {
  if (p.cell != Cell::lstm) refuse("cell", "'rnn'", "'lstm' with symbols");
  const In weight_ih(g.weights[0], call.held);
  check_usable("weight_ih", weight_ih);
  if (weight_ih.ndim() != 2) refuse("weight_ih", shape_of(weight_ih), "shape [G*H, S]");
  p.symbol_count = weight_ih.shape(1);
  const bool packed = call.tables.packed;
  check<const std::int64_t>("x", x, packed ? Shape{call.tables.rows(), 1} : Shape{p.steps, p.batch, 1});
  if (!x.size()) refuse("x", shape_of(x), "at least one symbol");
  const std::int64_t* data = x.template data<const std::int64_t>();
  p.symbols = along(call.tables, data, packed ? 0 : x.stride(0), x.stride(packed ? 0 : 1));
  const idx steps = packed ? 1 : p.steps, rows = x.size() / steps;
  for (idx t = 0; t < steps; ++t)
    for (idx n = 0; n < rows; ++n) {
      const std::int64_t symbol = data[t * p.symbols.step + n * p.symbols.row];
      if (symbol < 0 || symbol >= p.symbol_count)
        refuse("x", "symbol " + std::to_string(symbol), "symbols from 0 to " + std::to_string(p.symbol_count - 1));
    }
}

template <class T>
void describe_problem(Problem<T>& p, Call& call, const In& x, const Given& g) {
  g.states.expect(2);
  g.ragged.expect_or_none(3);
  for (idx i = 4; i < g.weights.size(); ++i)
    if (!absent(g.weights[i])) refuse("weights", "an array as number " + std::to_string(i + 1), "None after the biases");
  p.cell = cell_of(g.cell);
  describe_sizes(p, call, x, g);
  if (g.threads < 1) refuse("threads", std::to_string(g.threads), "at least 1");
  if (p.cell == Cell::rnn) refuse_for_rnn("c_0", g.states[1]);
  const idx rows = gates_of(p.cell) * p.hidden;
  p.reverse = g.reverse;
  p.threads = g.threads;
  p.x = along<const T>(call.tables, nullptr, 0, 0);
  p.symbols = along<const std::int64_t>(call.tables, nullptr, 0, 0);
  p.symbol_count = 0;
  if (is_symbols(x)) describe_symbols(p, call, x, g);
  else p.x = sequence<const T>("x", x, p, call.tables, p.input);
  const idx inputs = p.symbols.data ? p.symbol_count : p.input;
  p.h_0 = state<const T>(call, "h_0", g.states[0], p.batch, p.hidden);
  p.c_0 = state<const T>(call, "c_0", g.states[1], p.batch, p.hidden);
  p.weight_ih = contiguous<const T>(call, "weight_ih", g.weights[0], {rows, inputs});
  p.weight_hh = contiguous<const T>(call, "weight_hh", g.weights[1], {rows, p.hidden});
}

template <class T>
void describe_variant(Variant<T>& v, const Problem<T>& p, Call& call, const Options& o) {
  const idx N = p.batch, H = p.hidden;
  if (p.cell != Cell::lstm) refuse("cell", "'rnn'", "'lstm' with options");
  if (!absent(o.coupled) && !PyBool_Check(o.coupled.ptr()))
    refuse_type("coupled", type_of(o.coupled), "True or False");
  v.mask = marks(call, "mask", o.mask, p);
  v.reset = marks(call, "reset", o.reset, p);
  v.reset_h = optional<const T>(call, "reset_h", o.reset_h, {N, H});
  v.reset_c = optional<const T>(call, "reset_c", o.reset_c, {N, H});
  v.recurrent = optional<const T>(call, "recurrent", o.recurrent, {N, H});
  v.zoneout_h = optional_sequence<const T>(call, "zoneout_h", o.zoneout_h, p, H);
  v.zoneout_c = optional_sequence<const T>(call, "zoneout_c", o.zoneout_c, p, H);
  v.peepholes = optional<const T>(call, "peepholes", o.peepholes, {3, H});
  v.coupled = o.coupled.ptr() == Py_True;
  const bool norms = !absent(o.gain_x);
  for (nb::handle other : {o.gain_h, o.gain_c, o.bias_c})
    if (absent(other) == norms) refuse("gain_x, gain_h, gain_c, bias_c", "some of them", "all or none");
  v.gain_x = optional<const T>(call, "gain_x", o.gain_x, {4 * H});
  v.gain_h = optional<const T>(call, "gain_h", o.gain_h, {4 * H});
  v.gain_c = optional<const T>(call, "gain_c", o.gain_c, {H});
  v.bias_c = optional<const T>(call, "bias_c", o.bias_c, {H});
}

template <class T>
void describe_gradients(VariedBackward<T>& b, Call& call, const OptionGradients& d) {
  const idx N = b.batch, H = b.hidden;
  const bool sums = !absent(d.gain_x);
  for (nb::handle other : {d.gain_h, d.gain_c, d.bias_c})
    if (absent(other) == sums || (sums && !b.variant.gain_x))
      refuse("dgain_x, dgain_h, dgain_c, dbias_c", "some of them, or no norms", "all or none, and norms with them");
  if (b.variant.gain_x && b.dbias && !sums) refuse("dbias", "an array", "None with norms and without their gradients");
  if (!absent(d.peepholes) && !b.variant.peepholes) refuse("dpeepholes", "an array", "None without peepholes");
  b.dreset_h = optional<T>(call, "dreset_h", d.reset_h, {N, H});
  b.dreset_c = optional<T>(call, "dreset_c", d.reset_c, {N, H});
  b.dpeepholes = optional<T>(call, "dpeepholes", d.peepholes, {3, H});
  b.dgain_x = optional<T>(call, "dgain_x", d.gain_x, {4 * H});
  b.dgain_h = optional<T>(call, "dgain_h", d.gain_h, {4 * H});
  b.dgain_c = optional<T>(call, "dgain_c", d.gain_c, {H});
  b.dbias_c = optional<T>(call, "dbias_c", d.bias_c, {H});
}

// The tape, which forward writes and backward reads: gates and c, with norms normed and scale too. The RNN has none.
template <class Pass>
void describe_tape(Pass& p, Call& call, const Items& tape, bool needed) {
  using Gates = std::remove_pointer_t<decltype(p.gates)>;
  using Cells = std::remove_pointer_t<decltype(p.c)>;
  constexpr bool varied = requires { p.variant; };
  p.gates = nullptr, p.c = nullptr;
  if constexpr (varied) p.normed = nullptr, p.scale = nullptr;
  if (p.cell == Cell::rnn) {
    if (tape.size()) refuse("tape", std::to_string(tape.size()) + " arrays", "None for the RNN");
    return;
  }
  if (!tape && !needed) return;
  const idx H = p.hidden;
  const Tables& tables = call.tables;
  bool norms = false;
  if constexpr (varied) norms = p.variant.gain_x;
  tape.expect(norms ? 4 : 2);
  p.gates = contiguous<Gates>(call, "gates", tape[0], tape_shape(p, tables, {4, H}));
  p.c = contiguous<Cells>(call, "c", tape[1],
                          tables.ragged() ? Shape{p.batch + tables.rows(), H} : Shape{p.steps + 1, p.batch, H});
  if constexpr (varied)
    if (norms) {
      p.normed = contiguous<Cells>(call, "normed", tape[2], tape_shape(p, tables, {2, 4, H}));
      p.scale = contiguous<Cells>(call, "scale", tape[3], tape_shape(p, tables, {2}));
    }
}

// F is Forward<T> or VariedForward<T>.
template <template <class> class F, class T>
void describe(F<T>& f, Call& call, const In& x, const ForwardGiven& g) {
  g.weights.expect_at_least(4);
  g.outputs.expect(3);
  describe_problem<T>(f, call, x, g);
  const idx N = f.batch, H = f.hidden, rows = gates_of(f.cell) * H;
  if constexpr (requires { f.variant; }) describe_variant<T>(f.variant, f, call, g.options);
  describe_tape(f, call, g.tape, false);
  const nb::handle c_n = g.outputs[2];
  if (absent(c_n) == (f.cell == Cell::lstm))
    refuse("c_n", absent(c_n) ? "None" : "an array", "an array for the LSTM alone");
  f.bias_ih = optional<const T>(call, "bias_ih", g.weights[2], {rows});
  f.bias_hh = optional<const T>(call, "bias_hh", g.weights[3], {rows});
  f.y = sequence<T>(call, "y", g.outputs[0], f, H);
  f.h_n = state<T>(call, "h_n", g.outputs[1], N, H);
  f.c_n = state<T>(call, "c_n", c_n, N, H);
}

// B is Backward<T> or VariedBackward<T>.
template <template <class> class B, class T>
void describe(B<T>& b, Call& call, const In& x, const BackwardGiven& g) {
  g.weights.expect_at_least(2);
  g.douts.expect(3);
  g.dins.expect(6);
  g.dsteps.expect_or_none(3);
  describe_problem<T>(b, call, x, g);
  const idx N = b.batch, C = b.symbols.data ? b.symbol_count : b.input, H = b.hidden, G = gates_of(b.cell), rows = G * H;
  if (b.cell == Cell::rnn) {
    refuse_for_rnn("dc_n", g.douts[2]);
    refuse_for_rnn("dc_0", g.dins[2]);
    refuse_for_rnn("dc", g.dsteps[2]);
  }
  if constexpr (requires { b.variant; }) describe_variant<T>(b.variant, b, call, g.options);
  describe_tape(b, call, g.tape, true);
  b.y = sequence<const T>(call, "y", g.y, b, H);
  b.dy = optional_sequence<const T>(call, "dy", g.douts[0], b, H);
  b.dh_n = state<const T>(call, "dh_n", g.douts[1], N, H);
  b.dc_n = state<const T>(call, "dc_n", g.douts[2], N, H);
  if (b.symbols.data && !absent(g.dins[0])) refuse("dx", "an array", "None with symbols");
  b.dx = optional_sequence<T>(call, "dx", g.dins[0], b, b.input);
  b.dh_0 = state<T>(call, "dh_0", g.dins[1], N, H);
  b.dc_0 = state<T>(call, "dc_0", g.dins[2], N, H);
  b.dweight_ih = optional<T>(call, "dweight_ih", g.dins[3], {rows, C});
  b.dweight_hh = optional<T>(call, "dweight_hh", g.dins[4], {rows, H});
  b.dbias = optional<T>(call, "dbias", g.dins[5], {rows});
  b.dgates = optional<T>(call, "dgates", g.dsteps[0], tape_shape(b, call.tables, {G, H}));
  b.dh = optional<T>(call, "dh", g.dsteps[1], tape_shape(b, call.tables, {H}));
  b.dc = optional<T>(call, "dc", g.dsteps[2], tape_shape(b, call.tables, {H}));
  if constexpr (requires { b.variant; }) describe_gradients(b, call, g.doptions);
}

// The kernel of a problem.
template <class T>
const KernelsOf<T>& kernels_of(const Kernels& k) {
  if constexpr (std::is_same_v<T, float>) return k.f32;
  else if constexpr (std::is_same_v<T, double>) return k.f64;
  else return k.b16;
}
template <class T>
auto kernel_for(const Forward<T>&) { return kernels_of<T>(usable_kernels()).forward; }
template <class T>
auto kernel_for(const Backward<T>&) { return kernels_of<T>(usable_kernels()).backward; }
template <class T>
auto kernel_for(const VariedForward<T>&) { return kernels_of<T>(usable_kernels()).varied_forward; }
template <class T>
auto kernel_for(const VariedBackward<T>&) { return kernels_of<T>(usable_kernels()).varied_backward; }

// Describes a problem and hands it to its kernel. Other Python threads run meanwhile.
template <class Pass, class AnyGiven>
void run(Call& call, const In& x, const AnyGiven& given) {
  Pass pass;
  describe(pass, call, x, given);
  const auto kernel = kernel_for(pass);
  nb::gil_scoped_release unlocked;
  kernel(pass);
}

// x's type chooses the kernel, and whether anything is added.
template <template <class> class Plain, template <class> class Varied, class AnyGiven>
void run_pass(const AnyGiven& given, bool varied) {
  Call call;
  const In x(given.x, call.held);
  check_usable("x", x);
  nb::dlpack::dtype dtype = x.dtype();
  if (is_symbols(x)) {
    if (varied) refuse_dtype(x, "float32 or float64 with options");
    const In weight_hh(given.weights[1], call.held);
    check_usable("weight_hh", weight_hh);
    dtype = weight_hh.dtype();
  }
  if (dtype == nb::dtype<float>())
    return varied ? run<Varied<float>>(call, x, given) : run<Plain<float>>(call, x, given);
  if (dtype == nb::dtype<double>())
    return varied ? run<Varied<double>>(call, x, given) : run<Plain<double>>(call, x, given);
  if (dtype != dtype_of<bf16>()) {
    if (is_symbols(x)) refuse_type("weight_hh", dtype_text(dtype), "dtype float32, float64 or bfloat16");
    refuse_dtype(x, "float32, float64 or bfloat16");
  }
  if (varied) refuse_dtype(x, "float32 or float64 with options");
  run<Plain<bf16>>(call, x, given);
}

}  // namespace
}  // namespace undertow
