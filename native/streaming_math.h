// Vectors of the streaming runtime, and what a recurrent layer makes of its sums. tanh is a ratio of polynomials, whose
// chain is half as long as that of e^x; the sigmoids are tanh of half the sum (halved when packed, which is exact).
#pragma once
#include "moments.h"
#include "stream.h"
#include "tile.h"

namespace undertow {
namespace {

using V = Vec<float>;
constexpr idx W = lanes<float>;
// For the last units, where a whole vector would be half empty: a processor takes two such, or loads half as much.
constexpr idx half_lanes = W == 16 ? 8 : W;
typedef float Half __attribute__((vector_size(half_lanes * sizeof(float))));
template <class U>
constexpr idx lanes_of = sizeof(U) / sizeof(float);

constexpr idx whole(idx n, idx of = W) { return ceil_div(n, of) * of; }

template <class U>
UNDERTOW_INLINE U taken(const float* p) {
  U v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class U>
UNDERTOW_INLINE void put(float* p, U v) {
  std::memcpy(p, &v, sizeof v);
}

// A sigmoid is tanh of half the sum.
constexpr float part_of_gate(idx v) { return v == 2 ? 1.0f : 0.5f; }

UNDERTOW_INLINE V all_of(float a) { return V{} + a; }

// The first n lanes, zero in the rest.
template <class U>
UNDERTOW_INLINE U first_of(U v, idx n) {
  if (n >= lanes_of<U>) return v;
  using Lanes = decltype(v < v);
  Lanes lane;
  for (int i = 0; i < lanes_of<U>; ++i) lane[i] = i;
  return lane < Lanes{} + static_cast<std::int32_t>(n) ? v : U{};
}

// From -limit to limit; NaN stays NaN.
template <class U>
UNDERTOW_INLINE U bounded(U x, float limit) {
#if defined(__AVX2__)
  if constexpr (sizeof(U) == 32) return _mm256_max_ps(U{} - limit, _mm256_min_ps(U{} + limit, x));
  else
#endif
    return clamp<float>(x, limit);
}

// The sum of all lanes: of both halves, and so on.
template <class U>
UNDERTOW_INLINE float across(U v) {
  if constexpr (lanes_of<U> == 2) return v[0] + v[1];
  else {
    const auto half = [&]<std::size_t... k>(std::index_sequence<k...>, auto from) __attribute__((always_inline)) {
      return __builtin_shufflevector(v, v, (int(k) + int(from.value))...);
    };
    constexpr auto n = lanes_of<U> / 2;
    return across(half(std::make_index_sequence<n>(), Int<0>{}) + half(std::make_index_sequence<n>(), Int<n>{}));
  }
}

template <class U>
struct Ratio {
  U over, under;
};

// tanh(x) = x P(x^2) / Q(x^2), fitted for the least relative error, 2.1e-8, up to 9, where tanh is 1 - 3e-8; rounding
// makes it 3e-7. Coarse, for factors in 16 bits, which are 3e-5 apart: 8.1e-6 up to 6, where tanh is 1 - 1.2e-5.
// NaN stays NaN.
template <bool coarse = false, class U>
UNDERTOW_INLINE Ratio<U> tanh_ratio(U given) {
  const U x = bounded(given, coarse ? 6.0f : 9.0f), t = x * x, u = t * t;
  if constexpr (coarse)
    return {x * (u * 0x1.8f349ep-10f + (t * 0x1.d6f934p-4f + 1.0f)),
            u * (t * 0x1.dc07dap-15f + 0x1.216a6ep-6f) + (t * 0x1.cb0aa4p-2f + 1.0f)};
  // The product that is ready last comes first: compilers fuse the first one with the addition.
  const U over = (x * u) * (u * 0x1.cadcc6p-27f + (t * 0x1.59c34ep-16f + 0x1.ca2c76p-9f)) +
                 x * (t * 0x1.120b1cp-3f + 1.0f);
  const U under = u * (u * 0x1.a18028p-21f + (t * 0x1.588612p-12f + 0x1.a7f7ecp-6f)) + (t * 0x1.de5ad8p-2f + 1.0f);
  return {over, under};
}

UNDERTOW_INLINE V quick_tanh(V x) {
  const Ratio<V> r = tanh_ratio(x);
  return r.over / r.under;
}

UNDERTOW_INLINE V sigmoid_of_half(V half) {  // sigmoid(2 half)
  const Ratio<V> r = tanh_ratio(half);
  return 0.5f * (r.under + r.over) / r.under;
}

// c and h of a vector of units from the sums of their gates, those of i, f and o halved. Each takes one division: the
// terms of c come to a common denominator, at most 8e7.
template <bool coarse = false, class U>
UNDERTOW_INLINE U next_state(const U (&sums)[4], U& c) {
  const Ratio<U> i = tanh_ratio<coarse>(sums[0]), f = tanh_ratio<coarse>(sums[1]), g = tanh_ratio<coarse>(sums[2]),
                 o = tanh_ratio<coarse>(sums[3]);
  const U added = i.under * g.under;
  const U over = (f.under + f.over) * (0.5f * c) * added + (i.under + i.over) * (0.5f * g.over) * f.under;
  c = over / (f.under * added);
  const Ratio<U> seen = tanh_ratio<coarse>(c);
  return 0.5f * (o.under + o.over) * seen.over / (o.under * seen.under);
}

// The same in memory, of units of which n exist. The others stay zero: a NaN or an infinity times a weight of zero is NaN.
template <bool coarse = false, class U>
UNDERTOW_INLINE U store_units(idx n, const U (&sums)[4], float* c, float* y) {  // returns h
  U cell = taken<U>(c);
  const U h = first_of(next_state<coarse>(sums, cell), n);
  put(y, h);
  put(c, first_of(cell, n));
  return h;
}

}  // namespace
}  // namespace undertow
