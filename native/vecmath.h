// sigmoid and tanh of a vector, without a library call.
//
// exp(x) = 2^n * e^r with n = round(x / ln 2), |r| <= ln(2)/2, and e^r - 1 by its Taylor polynomial: degree 7
// in float32 (remainder under 6e-9), 13 in float64 (under 5e-18). tanh is built on expm1, not exp, so that it
// keeps its relative accuracy near zero.
// Range: all of it. Beyond the clamps the result is within one unit in the last place of its limit (sigmoid
// stops at exp(-87) = 1.6e-38 and exp(-708) = 3.3e-308); infinities give the limits, NaN gives NaN.
// Error, in units in the last place: at most 2.5 in float32 (all 2^32 values tried), 2.6 in float64 (3 million).
#pragma once
#include "simd.h"

namespace undertow {
namespace {

template <class T>
struct Exp;
template <>
struct Exp<float> {
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  static constexpr float ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
  static constexpr int bias = 127, mantissa = 23, degree = 7;
  static constexpr float sigmoid_limit = 87.0f, tanh_limit = 9.2f;
};
template <>
struct Exp<double> {
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_hi = 0x1.62e42feep-1, ln2_lo = 0x1.a39ef35793c76p-33;
  static constexpr int bias = 1023, mantissa = 52, degree = 13;
  static constexpr double sigmoid_limit = 708.0, tanh_limit = 19.2;
};

constexpr double inverse_factorial(int n) { return n < 2 ? 1.0 : inverse_factorial(n - 1) / n; }

// e^x = scale * (1 + m): m = expm1(r), scale = 2^n
template <class T>
UNDERTOW_INLINE void exp_parts(Vec<T> x, Vec<T>& scale, Vec<T>& m) {
  using E = Exp<T>;
  const Vec<T> shifted = x * T(1.4426950408889634) + E::magic;
  const Vec<T> n = shifted - E::magic;
  const Vec<T> r = (x - n * E::ln2_hi) - n * E::ln2_lo;
  scale = reinterpret_cast<Vec<T>>((reinterpret_cast<IVec<T>>(shifted) + E::bias) << E::mantissa);
  Vec<T> p = Vec<T>{} + T(inverse_factorial(E::degree));
#pragma GCC unroll 16
  for (int k = E::degree - 1; k >= 2; --k) p = p * r + T(inverse_factorial(k));
  m = p * r * r + r;
}

template <class T>
UNDERTOW_INLINE Vec<T> clamp(Vec<T> x, T limit) {  // NaN passes: both comparisons are false
  x = x > limit ? Vec<T>{} + limit : x;
  return x < -limit ? Vec<T>{} - limit : x;
}

template <class T>
UNDERTOW_INLINE Vec<T> sigmoid(Vec<T> x) {
  Vec<T> scale, m;
  exp_parts<T>(clamp<T>(-x, Exp<T>::sigmoid_limit), scale, m);
  return T(1) / (T(1) + scale + scale * m);
}

template <class T>
UNDERTOW_INLINE Vec<T> tanh(Vec<T> x) {
  Vec<T> scale, m;
  exp_parts<T>(clamp<T>(x, Exp<T>::tanh_limit) * T(2), scale, m);
  const Vec<T> e = scale * m + (scale - T(1));  // e^(2x) - 1
  const Vec<T> y = e / (e + T(2));
  return x == T(0) ? x : y;  // keeps the sign of zero
}

}  // namespace
}  // namespace undertow
