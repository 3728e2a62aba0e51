// The contract of the kernels: one layer, one direction, all time steps.
//
// They know no framework and no Python. T steps, N batch, C input, H hidden, G gates (4: LSTM, 1: plain
// RNN). Gate order i, f, g, o. A unit's row in the stacked weights is gate*H + unit.
//
// Ownership  The caller owns every array; a kernel keeps nothing. Scratch comes from scratch.h.
// Aliasing   Outputs overlap neither each other nor any input. Inputs are only read (the tape too).
// Strides    x, symbols, y, dy, dx: see Sequence. All other arrays are contiguous, row-major.
// Symbols    Of the LSTM a step may read a symbol s in place of C numbers: the vector of S numbers of which number s is 1 and the others
//            are 0. weight_ih then has S columns, of which W x_t is one, and C is 0.
// Order      `reverse` runs t = T-1..0; s counts the steps in the order they are run.
// Lengths    Sequences of different lengths are ranked, longest first: `order` names the sequence of each rank and
//            batch_sizes[t] says how many ranks are active at step t. That sequence ends there, and starts there
//            in reverse: its final and initial states are those beside its own steps. Past its end y and dx are
//            zero. Without tables all N are active at every step.
// Tape       One row for each active (s, rank), s by s: gates [R,4,H] after the activation and c [N+R,H], the first
//            N rows of c being c_0. Of sequences of one length that is [T,N,4,H] and [T+1,N,H].
// Threads    Results do not depend on `threads`, bit for bit: every sum has an order fixed by the problem.
// Errors     None. Shapes are the binding's to check; T, N, C may be 0, H may not.
#pragma once
#include <cstddef>
#include <cstdint>

// Always inlined: a function that several instruction-set levels share must not exist as code of one of them.
#define UNDERTOW_INLINE inline __attribute__((always_inline))
// Never inlined: code for the rare case, which would slow down the loops that it stands in.
#define UNDERTOW_APART __attribute__((noinline))

namespace undertow {

using idx = std::ptrdiff_t;

struct bf16 {  // the upper half of a float32: arrays are kept in it, sums and the cell are not
  std::uint16_t bits;
};
template <class S>
struct RealOf {
  using type = S;
};
template <>
struct RealOf<bf16> {
  using type = float;
};
template <class S>
using Real = typename RealOf<S>::type;  // what is calculated in, and the cell's tape is kept in

enum class Cell : int { lstm, rnn };
constexpr idx gates_of(Cell cell) { return cell == Cell::lstm ? 4 : 1; }

// A row of features for each step and rank, stride 1 in the last dimension; data may be null where said. Padded,
// [T,N,.]: strides of any sign, and the table of the ranks' places. Packed, [R,.]: the table of the steps' first rows.
template <class P>
struct Sequence {
  P* data;
  idx step, row;
  const std::int64_t *order, *starts;  // [N], [T]; each may be null
  UNDERTOW_INLINE P* start(idx t) const { return data + (starts ? static_cast<idx>(starts[t]) * row : t * step); }
  UNDERTOW_INLINE idx offset(idx rank) const { return (order ? static_cast<idx>(order[rank]) : rank) * row; }
  UNDERTOW_INLINE P* at(idx t, idx rank) const { return start(t) + offset(rank); }
};

template <class T>
struct Problem {
  Cell cell;
  idx steps, batch, input, hidden;
  bool reverse;
  int threads;
  const std::int64_t* batch_sizes;  // [T], non-increasing, or null
  const std::int64_t* starts;       // [T+1], how many rows come before step t, where batch_sizes is given
  const std::int64_t* order;        // [N], the sequence of each rank, or null: all states are in that order
  Sequence<const T> x;              // C features
  Sequence<const std::int64_t> symbols;  // one number, 0 to S - 1, in place of x; or null
  idx symbol_count;                 // S
  const T *h_0, *c_0;               // [N,H], or null: zero
  const T *weight_ih, *weight_hh;   // [G*H,C] or [G*H,S], [G*H,H]

  UNDERTOW_INLINE idx time(idx s) const { return reverse ? steps - 1 - s : s; }
  UNDERTOW_INLINE idx place(idx rank) const { return order ? static_cast<idx>(order[rank]) : rank; }
  UNDERTOW_INLINE idx active(idx s) const { return batch_sizes ? static_cast<idx>(batch_sizes[time(s)]) : batch; }
  // Of the tape: the first row of step s, and the row of the cell before a step and after it.
  UNDERTOW_INLINE idx tape_start(idx s) const {
    if (!batch_sizes) return s * batch;
    return static_cast<idx>(reverse ? starts[steps] - starts[time(s) + 1] : starts[s]);
  }
  UNDERTOW_INLINE idx c_after(idx s, idx rank) const { return batch + tape_start(s) + rank; }
  UNDERTOW_INLINE bool begins(idx s, idx rank) const { return s == 0 || rank >= active(s - 1); }
  UNDERTOW_INLINE idx c_before(idx s, idx rank) const { return begins(s, rank) ? rank : c_after(s - 1, rank); }
};

template <class T>
struct Forward : Problem<T> {
  const T *bias_ih, *bias_hh;  // [G*H], each may be null
  Sequence<T> y;               // H features, out
  T *h_n, *c_n;                // [N,H] out, each may be null
  T* gates;                    // tape, out; both or neither
  Real<T>* c;
};

template <class T>
struct Backward : Problem<T> {
  Sequence<const T> y;               // of the forward pass: the rest of the tape
  const T* gates;                    // tape; null for the RNN
  const Real<T>* c;
  Sequence<const T> dy;              // or null
  const T *dh_n, *dc_n;              // [N,H], each may be null (zero)
  Sequence<T> dx;                    // out, or null
  T *dh_0, *dc_0;                    // [N,H] out, each may be null
  T *dweight_ih, *dweight_hh, *dbias;  // as the weights, [G*H] out, each may be null
  T *dgates, *dh, *dc;               // [R,G,H] before the activation, [R,H], [R,H], in the tape's order, out: each may
                                     // be null. dh and dc are whole: through y, and through all later steps
};

// What may be added to the equations of the LSTM, float32 and float64; every pointer may be null. h' and c' are the
// states a step starts from. `~` marks what the LSTM's own equations make of them:
//   sums   W x_t + U (h' * recurrent) + b;  with norms  LN(W x_t) * gain_x + LN(U (h' * recurrent)) * gain_h + b
//   gates  i, f see p_i * c', p_f * c' before their activation, o sees p_o * c~;  coupled: f = 1 - i
//   h~     o * tanh(c~);  with norms  o * tanh(LN(c~) * gain_c + bias_c)
//   c_t    zoneout_c * c' + (1 - zoneout_c) * c~, and h_t likewise
// LN takes from all 4H, of c~ from all H, their mean and divides by the root of their variance + norm_epsilon.
template <class T>
struct Variant {
  const std::uint8_t* mask;   // [T,N]: where 0, h and c stay as they are; x is not read, the tape's gates are zero
  const std::uint8_t* reset;  // [T,N], as run: where 1, h' and c' are these in place of the last step's
  const T *reset_h, *reset_c;  // [N,H], null: zero
  const T* recurrent;          // [N,H]
  Sequence<const T> zoneout_h, zoneout_c;  // H features
  const T* peepholes;          // [3,H]: p_i, p_f, p_o
  bool coupled;
  const T *gain_x, *gain_h, *gain_c, *bias_c;  // [4H], [4H], [H], [H]: all or none
};
constexpr double norm_epsilon = 1e-5;

template <class T>
struct VariedForward : Forward<T> {
  Variant<T> variant;
  T *normed, *scale;  // tape, out, of norms: of W x_t and of U (h' * recurrent) LN [R,2,4,H], and what it multiplied
                      // by [R,2]
};

template <class T>
struct VariedBackward : Backward<T> {  // dgates is that before the activation, dc that of c~
  Variant<T> variant;
  const T *normed, *scale;
  T *dreset_h, *dreset_c, *dpeepholes;  // [N,H], [N,H], [3,H] out, each may be null
  T *dgain_x, *dgain_h, *dgain_c, *dbias_c;  // [4H], [4H], [H], [H] out, all or none; dbias only with them
};

// One instruction-set level's kernels of one type of number.
template <class T>
struct KernelsOf {
  void (*forward)(const Forward<T>&);
  void (*backward)(const Backward<T>&);
  void (*varied_forward)(const VariedForward<T>&);
  void (*varied_backward)(const VariedBackward<T>&);
  // y[i] = sigmoid(x[i]) and tanh(x[i]), as the kernels compute them: for the tests of accuracy
  void (*sigmoid)(const T* x, T* y, idx n);
  void (*tanh)(const T* x, T* y, idx n);
  // does float32 multiply-adds and nothing else, and returns how many flops: for measuring the machine
  double (*multiply_adds)(idx rounds);
};
template <>
struct KernelsOf<bf16> {
  void (*forward)(const Forward<bf16>&);
  void (*backward)(const Backward<bf16>&);
};

// One level's kernels. Chosen once, at run time, in dispatch.cc.
struct Kernels {
  const char* name;
  const KernelsOf<float>& f32;
  const KernelsOf<double>& f64;
  const KernelsOf<bf16>& b16;
};

// The best level this processor runs, or the one named in UNDERTOW_ISA; null if that one cannot run here.
const Kernels* kernels();
// The level of that name, or null when it is unknown or this processor lacks it.
const Kernels* kernels(const char* name);

}  // namespace undertow
