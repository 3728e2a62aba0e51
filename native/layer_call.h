// One layer's call of the kernels, from what Python gives: Forward and Backward of lstm.h, described and run.
#pragma once
#include <tuple>

#include "checks.h"

namespace undertow {
namespace {

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

}  // namespace
}  // namespace undertow
