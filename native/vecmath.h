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

// With k = 1 or 2: k*x = n ln 2 + k*r; 2^n and k^2 q(k*r). Constants take the k, so that nothing else has to.
template <class T, int k>
UNDERTOW_INLINE void reduce(Vec<T> x, Vec<T>& scale, Vec<T>& r, Vec<T>& q) {
  using E = Exp<T>;
  const Vec<T> shifted = x * T(k * 1.4426950408889634) + E::magic;
  const Vec<T> n = shifted - E::magic;
  r = (x - n * (E::ln2_hi / k)) - n * (E::ln2_lo / k);
  scale = reinterpret_cast<Vec<T>>(reinterpret_cast<IVec<T>>(shifted) << E::mantissa);
  constexpr int degree = sizeof(E::q) / sizeof(T) - 1;
  T power = T(1 << (k == 2 ? degree + 2 : 0));
  q = Vec<T>{} + E::q[degree] * power;
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) q = q * r + E::q[i] * (power /= k);
}

template <class T>
UNDERTOW_INLINE Vec<T> clamp(Vec<T> x, T limit) {
  return larger<T>(Vec<T>{} - limit, smaller<T>(Vec<T>{} + limit, x));
}

template <class T>
UNDERTOW_INLINE Vec<T> sigmoid(Vec<T> x) {
  Vec<T> scale, r, q;
  reduce<T, 1>(-clamp<T>(x, Exp<T>::sigmoid_limit), scale, r, q);
  return T(1) / (T(1) + scale * ((q * r + T(1)) * r + T(1)));
}

template <class T>
UNDERTOW_INLINE Vec<T> tanh(Vec<T> x) {
  Vec<T> scale, r, q;
  reduce<T, 2>(clamp<T>(x, Exp<T>::tanh_limit), scale, r, q);
  const Vec<T> e = scale * (q * (r * r) + (r + r)) + (scale - T(1));  // e^2x - 1
  return e / (e + T(2));
}

}  // namespace
}  // namespace undertow
