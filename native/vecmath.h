// sigmoid and tanh of a vector, without a library call.
//
// e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln(2)/2, and e^r = 1 + r + r^2 q(r): q of degree 4 in float32,
// fitted for the least relative error (3e-9), and Taylor's of degree 11 in float64 (remainder under 5e-18). tanh is
// built on e^2x - 1, not e^2x, so that it keeps its relative accuracy near zero.
// Range: all of it. Beyond the clamps the result is within one unit in the last place of its limit (sigmoid
// stops at exp(-87) = 1.6e-38 and exp(-708) = 3.3e-308); infinities give the limits, NaN gives NaN.
// Error, in units in the last place: at most 2.7 in float32 (all 2^32 values tried), 2.6 in float64 (3 million).
#pragma once
#include "simd.h"

namespace undertow {
namespace {

template <class T>
struct Exp;
template <>
struct Exp<float> {
  // Adding 1.5 * 2^23 rounds to an integer, kept in the low bits: there, the exponent of 2^n with its bias.
  static constexpr float magic = 12582912.0f + 127;
  static constexpr int mantissa = 23;
  static constexpr float ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
  static constexpr float q[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.123a2p-7f, 0x1.6a23cep-10f};
  static constexpr float sigmoid_limit = 87.0f, tanh_limit = 9.2f;
};
template <>
struct Exp<double> {
  static constexpr double magic = 6755399441055744.0 + 1023;  // 1.5 * 2^52
  static constexpr int mantissa = 52;
  static constexpr double ln2_hi = 0x1.62e42feep-1, ln2_lo = 0x1.a39ef35793c76p-33;
  static constexpr double q[] = {1. / 2,      1. / 6,       1. / 24,       1. / 120,       1. / 720,       1. / 5040,
                                 1. / 40320,  1. / 362880,  1. / 3628800,  1. / 39916800,  1. / 479001600, 1. / 6227020800};
  static constexpr double sigmoid_limit = 708.0, tanh_limit = 19.2;
};

template <class T>
UNDERTOW_INLINE Vec<T> clamp(Vec<T> x, T limit) {
  return larger<T>(Vec<T>{} - limit, smaller<T>(Vec<T>{} + limit, x));
}

// Of each x tanh or sigmoid, step by step in all of them: each waits for its own last step, and the processor sees only
// so far ahead.
template <class T, bool... is_tanh>
UNDERTOW_INLINE void activate(Vec<T> (&x)[sizeof...(is_tanh)]) {
  using E = Exp<T>;
  constexpr int N = sizeof...(is_tanh), degree = sizeof(E::q) / sizeof(T) - 1;
  constexpr bool tanh[N] = {is_tanh...};
  Vec<T> y[N], shifted[N], r[N], q[N];  // y: e^y is what is wanted
  for (int i = 0; i < N; ++i) {
    const Vec<T> inside = clamp<T>(x[i], tanh[i] ? E::tanh_limit : E::sigmoid_limit);
    y[i] = tanh[i] ? inside + inside : -inside;
  }
  for (int i = 0; i < N; ++i) shifted[i] = y[i] * T(1.4426950408889634) + E::magic;
  for (int i = 0; i < N; ++i) r[i] = y[i] - (shifted[i] - E::magic) * E::ln2_hi;
  for (int i = 0; i < N; ++i) r[i] = r[i] - (shifted[i] - E::magic) * E::ln2_lo;
  for (int i = 0; i < N; ++i) q[i] = Vec<T>{} + E::q[degree];
#pragma GCC unroll 16
  for (int k = degree - 1; k >= 0; --k)
    for (int i = 0; i < N; ++i) q[i] = q[i] * r[i] + E::q[k];
  for (int i = 0; i < N; ++i) {
    const Vec<T> scale = reinterpret_cast<Vec<T>>(reinterpret_cast<IVec<T>>(shifted[i]) << E::mantissa);
    if (tanh[i]) {
      const Vec<T> e = scale * (q[i] * (r[i] * r[i]) + r[i]) + (scale - T(1));  // e^y - 1
      x[i] = e / (e + T(2));
    } else x[i] = T(1) / (T(1) + scale * ((q[i] * r[i] + T(1)) * r[i] + T(1)));
  }
}

template <class T>
UNDERTOW_INLINE Vec<T> sigmoid(Vec<T> x) {
  Vec<T> all[1] = {x};
  activate<T, false>(all);
  return all[0];
}

template <class T>
UNDERTOW_INLINE Vec<T> tanh(Vec<T> x) {
  Vec<T> all[1] = {x};
  activate<T, true>(all);
  return all[0];
}

}  // namespace
}  // namespace undertow
