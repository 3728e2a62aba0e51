// The contract of the kernels: one layer, one direction, all time steps.
//
// They know no framework and no Python. T steps, N batch, C input, H hidden, G gates (4: LSTM, 1: plain
// RNN). Gate order i, f, g, o. A unit's row in the stacked weights is gate*H + unit.
//
// Ownership  The caller owns every array; a kernel keeps nothing. Scratch comes from scratch.h.
// Aliasing   Outputs overlap neither each other nor any input. Inputs are only read (the tape too).
// Strides    x, y, dy, dx: element (t,n,k) is at p + t*step + n*row + k; strides count elements and may
//            be negative or cover (N,T,.) layouts. All other arrays are contiguous, row-major.
// Order      `reverse` runs t = T-1..0. gates and c are in processing order: entry s belongs to the s-th
//            step that was run; c has T+1 entries, the first being c_0.
// Lengths    batch_sizes[t], non-increasing: sequences 0..batch_sizes[t]-1 are active at step t. Inactive:
//            y, gates and dx are zero and the state is carried. Null: all N at every step.
// Threads    Results do not depend on `threads`, bit for bit: every sum has an order fixed by the problem.
// Errors     None. Shapes are the binding's to check; T, N, C may be 0, H may not.
#pragma once
#include <cstddef>
#include <cstdint>

// Always inlined: a function that several instruction-set levels share must not exist as code of one of them.
#define UNDERTOW_INLINE inline __attribute__((always_inline))

namespace undertow {

using idx = std::ptrdiff_t;
enum class Cell : int { lstm, rnn };
constexpr idx gates_of(Cell cell) { return cell == Cell::lstm ? 4 : 1; }

template <class P>
struct Sequence {  // a strided [T,N,.] array, last dimension contiguous; data may be null where said
  P* data;
  idx step, row;
  UNDERTOW_INLINE P* at(idx t, idx n) const { return data + t * step + n * row; }
};

template <class T>
struct Problem {
  Cell cell;
  idx steps, batch, input, hidden;
  bool reverse;
  int threads;
  const std::int64_t* batch_sizes;  // [T] or null
  Sequence<const T> x;              // [T,N,C]
  const T *h_0, *c_0;               // [N,H]; c_0 null for the RNN
  const T *weight_ih, *weight_hh;   // [G*H,C], [G*H,H]

  UNDERTOW_INLINE idx time(idx s) const { return reverse ? steps - 1 - s : s; }
  UNDERTOW_INLINE idx active(idx s) const { return batch_sizes ? static_cast<idx>(batch_sizes[time(s)]) : batch; }
};

template <class T>
struct Forward : Problem<T> {
  const T *bias_ih, *bias_hh;  // [G*H], each may be null
  Sequence<T> y;               // [T,N,H] out
  T *h_n, *c_n;                // [N,H] out; c_n null for the RNN
  T *gates, *c;                // tape, out: [T,N,4,H] after the activation, [T+1,N,H]; both or neither
};

template <class T>
struct Backward : Problem<T> {
  Sequence<const T> y;               // [T,N,H] of the forward pass: the rest of the tape
  const T *gates, *c;                // tape; null for the RNN
  Sequence<const T> dy;              // [T,N,H] or null
  const T *dh_n, *dc_n;              // [N,H], each may be null (zero)
  Sequence<T> dx;                    // [T,N,C] out, or null
  T *dh_0, *dc_0;                    // [N,H] out, each may be null
  T *dweight_ih, *dweight_hh, *dbias;  // [G*H,C], [G*H,H], [G*H] out, each may be null
};

// One instruction-set level's kernels. Chosen once, at run time, in dispatch.cc.
struct Kernels {
  const char* name;
  void (*forward_f32)(const Forward<float>&);
  void (*forward_f64)(const Forward<double>&);
  void (*backward_f32)(const Backward<float>&);
  void (*backward_f64)(const Backward<double>&);
  // y[i] = sigmoid(x[i]) and tanh(x[i]), as the kernels compute them: for the tests of accuracy
  void (*sigmoid_f32)(const float* x, float* y, idx n);
  void (*tanh_f32)(const float* x, float* y, idx n);
  void (*sigmoid_f64)(const double* x, double* y, idx n);
  void (*tanh_f64)(const double* x, double* y, idx n);
};

// The best level this processor runs, or the one named in UNDERTOW_ISA; null if that one cannot run here.
const Kernels* kernels();
// The level of that name, or null when it is unknown or this processor lacks it.
const Kernels* kernels(const char* name);

}  // namespace undertow
