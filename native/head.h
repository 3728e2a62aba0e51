// The contract of a head: what a network of one output a sequence has after its layers, with its loss and all gradients.
//
// N sequences, T steps, D hidden states of a step, F features, O outputs. In a step of a small network the operations of a
// framework take longer than this arithmetic. One thread; every sum has one order. `Ownership` and `Aliasing` as
// in lstm.h; all arrays are contiguous, row-major, but for `moves`, whose rows of K lie `step` and `row` apart.
//
//   features  mean and largest of y over the steps, side by side (F = 2D), or as given; where `kept` is 0 zero
//   output    features W^T + b;  of a forecast  last + size (features W^T + b + sum over t of moves_t linear_t)
//   loss      of numbers  mean ((output - target) / unit)^2, over the targets that are not NaN
//             of classes  mean -log softmax(output)[target], weighted, over the targets that are not `unscored`
#pragma once
#include <cstdint>

#include "lstm.h"

namespace undertow {

template <class T>
struct Head {
  idx steps, batch, features, outputs, targets;  // T, N, F, O, and K of a forecast
  const T* hidden;        // [T,N,F/2], from which the features are made; or null
  T* given;               // [N,F]: the features; out, where they are made
  const T* kept;          // [N,F], factors of the features (dropout); or null
  const T *weight, *bias;  // [O,F], [O]
  const T *last, *size;   // of a forecast [N,K], else null; output h*K + k is that of row h and target k
  const T* moves;         // [T,N,K]
  idx step, row;
  const T* linear;        // [K,O/K,T]
  const T* numbers;       // [N,O] targets, or null
  const T* unit;          // [O], or [N,O] with unit_row = O; of numbers
  idx unit_row;
  const std::int64_t* classes;  // [N] targets from 0 to O-1, or unscored
  std::int64_t unscored;
  const T* class_weights;   // [O], or null: all alike
  T* output;                // [N,O] out
  // The gradients, all out: all or none, but for those of what is not there.
  T *dhidden, *dgiven, *dweight, *dbias, *dlinear;
};

template <class T>
struct Found {
  T loss;               // 0 where nothing is a target
  idx scored, right;    // how many targets there are, and of classes how many have the largest output
};
template <class T>
Found<T> head(const Head<T>& h);

extern template Found<float> head(const Head<float>&);
extern template Found<double> head(const Head<double>&);

}  // namespace undertow
