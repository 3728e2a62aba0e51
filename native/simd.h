// Vectors of the widest kind the compiler was told of, by the compiler's own vector extensions. Included
// once per instruction-set level; everything here lives in an unnamed namespace so that no code compiled
// for one level can be linked into another.
#pragma once
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cstring>
#include <type_traits>
#include <utility>

#include "lstm.h"

namespace undertow {
namespace {

constexpr idx ceil_div(idx a, idx b) { return (a + b - 1) / b; }
constexpr idx least(idx a, idx b) { return a < b ? a : b; }
constexpr idx most(idx a, idx b) { return a > b ? a : b; }

template <int N>
struct Int {
  static constexpr int value = N;
};

// Calls f with Int<0> to Int<N - 1>. Vectors of an array that are numbered by constants stay in registers. In a loop that the
// compiler unrolls later, they go through memory, and a processor may take two cycles to store a wide one.
#define UNDERTOW_INLINED __attribute__((always_inline))  // of a lambda
template <class F, std::size_t... i>
UNDERTOW_INLINE void each_of(std::index_sequence<i...>, F&& f) {
  (f(Int<static_cast<int>(i)>{}), ...);
}
template <int N, class F>
UNDERTOW_INLINE void each(F&& f) {
  each_of(std::make_index_sequence<N>(), f);
}

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int tile_rows = 6;       // 6 rows x 4 vectors = 24 accumulators of 32 registers
constexpr int accumulators = 24;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int tile_rows = 3;       // 3 rows x 4 vectors = 12 accumulators of 16 registers
constexpr int accumulators = 12;
#else
constexpr int vector_bytes = 16;
constexpr int tile_rows = 3;
constexpr int accumulators = 12;
#endif

template <class T>
struct Simd;
template <>
struct Simd<float> {
  typedef float vec __attribute__((vector_size(vector_bytes)));
  typedef std::int32_t ivec __attribute__((vector_size(vector_bytes)));
};
template <>
struct Simd<double> {
  typedef double vec __attribute__((vector_size(vector_bytes)));
  typedef std::int64_t ivec __attribute__((vector_size(vector_bytes)));
};

#if defined(__AVX512BF16__)
struct Pair {  // of neighbours along a sum: their products are added in one instruction
  bf16 first, second;
};
template <>
struct Simd<Pair> {
  typedef std::int32_t vec __attribute__((vector_size(vector_bytes)));
};
#endif

template <class T>
using Vec = typename Simd<T>::vec;
template <class T>
using IVec = typename Simd<T>::ivec;
template <class T>
constexpr int lanes = vector_bytes / sizeof(T);

template <class T>
UNDERTOW_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
UNDERTOW_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// The smaller and the larger of each pair; where x is NaN, x. Processors have just that in one instruction, but
// compilers do not find it for vectors.
template <class T>
UNDERTOW_INLINE Vec<T> smaller(Vec<T> bound, Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_min_ps(bound, x);
  else return _mm512_min_pd(bound, x);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return _mm256_min_ps(bound, x);
  else return _mm256_min_pd(bound, x);
#else
  return bound < x ? bound : x;
#endif
}

template <class T>
UNDERTOW_INLINE Vec<T> larger(Vec<T> bound, Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_max_ps(bound, x);
  else return _mm512_max_pd(bound, x);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return _mm256_max_ps(bound, x);
  else return _mm256_max_pd(bound, x);
#else
  return bound > x ? bound : x;
#endif
}

// The first n lanes, for what is left over when a size is no multiple of the lanes; the rest read as zero.
template <class T>
UNDERTOW_INLINE Vec<T> load(const T* p, idx n) {
  if (n >= lanes<T>) return load(p);
#if defined(__AVX512F__)
  const auto mask = static_cast<unsigned>((1 << n) - 1);
  if constexpr (sizeof(T) == 4) return _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p);
  else return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p);
#else
  Vec<T> v = {};
  for (idx i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

template <class T>
UNDERTOW_INLINE void store(T* p, Vec<T> v, idx n) {
  if (n >= lanes<T>) return store(p, v);
#if defined(__AVX512F__)
  const auto mask = static_cast<unsigned>((1 << n) - 1);
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), v);
  else _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), v);
#else
  for (idx i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// A whole line of the cache, written to memory past it. `written_past` comes before anybody else reads it.
constexpr bool vector_is_line = vector_bytes == 64;
template <class T>
UNDERTOW_INLINE void store_past(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) _mm512_stream_ps(p, v);
  else _mm512_stream_pd(p, v);
#else
  store(p, v);
#endif
}
UNDERTOW_INLINE void written_past() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

// Half a vector, and its first n lanes.
template <class T>
struct HalfOf {
  typedef T vec __attribute__((vector_size(vector_bytes / 2)));
};
template <class T>
using HalfVec = typename HalfOf<T>::vec;
template <class T>
UNDERTOW_INLINE void store_half(T* p, HalfVec<T> v, idx n) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask8>((1 << n) - 1);
  if constexpr (sizeof(T) == 4) _mm256_mask_storeu_ps(p, mask, v);
  else _mm256_mask_storeu_pd(p, mask, v);
#else
  for (idx i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// bf16 in memory is float32 in a vector. Rounded to nearest, ties to even; NaN stays NaN. The instruction for it takes
// numbers under 1.2e-38 for zero.
UNDERTOW_INLINE Vec<float> load(const bf16* p, idx n = lanes<float>) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>(n >= lanes<float> ? 0xffff : (1 << n) - 1);
  const __m256i halves = _mm256_maskz_loadu_epi16(mask, p);
  return (Vec<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
#else
  IVec<float> bits = {};
  for (idx i = 0; i < least(n, lanes<float>); ++i) bits[i] = std::int32_t(std::uint32_t{p[i].bits} << 16);
  return (Vec<float>)bits;
#endif
}

UNDERTOW_INLINE IVec<float> upper_halves(Vec<float> v) {  // rounded, in the upper 16 bits of each lane
#if defined(__AVX512BF16__)
  return (IVec<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v)), 16);
#else
  const IVec<float> bits = (IVec<float>)v, odd = (bits >> 16) & 1;
  return (v == v ? bits + 0x7fff + odd : bits | 0x400000) & ~0xffff;
#endif
}

UNDERTOW_INLINE void store(bf16* p, Vec<float> v, idx n = lanes<float>) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>(n >= lanes<float> ? 0xffff : (1 << n) - 1);
#if defined(__AVX512BF16__)
  _mm256_mask_storeu_epi16(p, mask, (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
  _mm256_mask_storeu_epi16(p, mask, _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)upper_halves(v), 16)));
#endif
#else
  const IVec<float> bits = upper_halves(v);
  for (idx i = 0; i < least(n, lanes<float>); ++i) p[i].bits = static_cast<std::uint16_t>(std::uint32_t(bits[i]) >> 16);
#endif
}

// As S keeps it.
template <class S>
UNDERTOW_INLINE Vec<Real<S>> rounded(Vec<Real<S>> v) {
  if constexpr (std::is_same_v<S, bf16>) return (Vec<float>)upper_halves(v);
  else return v;
}

// to[k] = from[k], or zero where there is no `from`.
template <class To, class From>
UNDERTOW_INLINE void copy(To* to, const From* from, idx count) {
  if (!from) std::memset(static_cast<void*>(to), 0, sizeof(To) * static_cast<std::size_t>(count));
  else if constexpr (std::is_same_v<To, From>) std::memcpy(to, from, sizeof(To) * static_cast<std::size_t>(count));
  else
    for (idx k = 0; k < count; k += lanes<Real<To>>) store(to + k, load(from + k, count - k), count - k);
}

// What a product is taken of: numbers, or pairs of bf16 where the processor adds the products of pairs.
template <class S>
struct FactorOf {
  using type = Real<S>;
  using kept = Real<S>;  // a factor's parts, one by one
  static constexpr int parts = 1;
};
#if defined(__AVX512BF16__)
template <>
struct FactorOf<bf16> {
  using type = Pair;
  using kept = bf16;
  static constexpr int parts = 2;
};
#endif
template <class S>
using Factor = typename FactorOf<S>::type;
template <class S>
using Kept = typename FactorOf<S>::kept;
template <class S>
constexpr idx parts = FactorOf<S>::parts;

template <class S>
UNDERTOW_INLINE Vec<Factor<S>> load_factors(const S* p, idx n) {  // of n numbers side by side
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<S, bf16>)
    return (Vec<Pair>)_mm512_maskz_loadu_epi16(n >= 32 ? 0xffffffffu : (1u << n) - 1, p);
  else
#endif
    return load(p, n);
}

template <class T>
UNDERTOW_INLINE Vec<T> fused(Vec<T> sum, T a, Vec<T> b) {
  return sum + a * b;
}

#if defined(__AVX512BF16__)
UNDERTOW_INLINE Vec<float> fused(Vec<float> sum, Pair a, Vec<Pair> b) {
  std::int32_t both;
  std::memcpy(&both, &a, sizeof both);
  return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(both), (__m512bh)b);
}

// One part of each of n pairs.
UNDERTOW_INLINE void store_part(Pair* p, Vec<float> v, bool second, idx n = lanes<float>) {
  const __m512i halves = (__m512i)upper_halves(v);
  const __mmask32 all = n >= lanes<float> ? 0xffffffffu : (1u << (2 * n)) - 1;
  _mm512_mask_storeu_epi16(p, all & (second ? 0xaaaaaaaau : 0x55555555u), second ? halves : _mm512_srli_epi32(halves, 16));
}
#endif

// Lane j of the first or, from lanes on, of the second vector of a pair, as one stage of a transposition takes them:
// of rows i and i+b, blocks of b lanes change places across the diagonal.
template <class T, int b, bool upper, std::size_t... j>
UNDERTOW_INLINE Vec<T> exchange(Vec<T> first, Vec<T> second, std::index_sequence<j...>) {
  if constexpr (upper) return __builtin_shufflevector(first, second, (j & b ? lanes<T> + j : j + b)...);
  else return __builtin_shufflevector(first, second, (j & b ? lanes<T> + j - b : j)...);
}

// rows[i][j] becomes rows[j][i].
template <class T, int b = 1>
UNDERTOW_INLINE void transpose(Vec<T> (&rows)[lanes<T>]) {
  if constexpr (b < lanes<T>) {
    constexpr auto all = std::make_index_sequence<lanes<T>>();
#pragma GCC unroll 16
    for (int i = 0; i < lanes<T>; ++i) {
      if (i & b) continue;
      const Vec<T> first = rows[i], second = rows[i + b];
      rows[i] = exchange<T, b, false>(first, second, all);
      rows[i + b] = exchange<T, b, true>(first, second, all);
    }
    transpose<T, 2 * b>(rows);
  }
}

}  // namespace
}  // namespace undertow
