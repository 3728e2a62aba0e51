// Mean and spread of a row, for layer normalisation: two passes over it, each sum in a fixed order.
#pragma once
#include <cmath>

#include "vecmath.h"

namespace undertow {
namespace {

template <class T>
UNDERTOW_INLINE T sum_of(Vec<T> v) {
  T sum = 0;
  for (int i = 0; i < lanes<T>; ++i) sum += v[i];
  return sum;
}

// The first n lanes, zero in the rest.
template <class T>
UNDERTOW_INLINE Vec<T> first(Vec<T> v, idx n) {
  if (n >= lanes<T>) return v;
  IVec<T> lane;
  for (int i = 0; i < lanes<T>; ++i) lane[i] = i;
  const IVec<T> end = IVec<T>{} + static_cast<std::remove_reference_t<decltype(lane[0])>>(n);
  return lane < end ? v : Vec<T>{};
}

template <class T>
struct Moments {
  T mean, scale;  // scale: 1 / sqrt(variance + norm_epsilon)
};

// `each` calls its argument with every vector of the row and how many of its lanes count.
template <class T, class Each>
UNDERTOW_INLINE Moments<T> moments(idx count, Each&& each) {
  Vec<T> sum = {}, squares = {};
  each([&](Vec<T> v, idx valid) { sum += first<T>(v, valid); });
  const T mean = sum_of<T>(sum) / T(count);
  each([&](Vec<T> v, idx valid) {
    const Vec<T> d = first<T>(v - mean, valid);
    squares += d * d;
  });
  return {mean, T(1) / std::sqrt(sum_of<T>(squares) / T(count) + T(norm_epsilon))};
}

}  // namespace
}  // namespace undertow
