// The streaming runtime's LSTM without additions, the weights of h in 16 bits, and those of x where |x| <= 1. A row is
// scaled so that its sum of products with h, in 15 bits, cannot leave 32 bits.
#pragma once
#include "streaming_lstm.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace undertow {
namespace {

constexpr float one_in_16 = 32767.0f, most_in_row = 65535.0f;  // 65535 * 32767 < 2^31

struct NarrowLstm {
  idx bounded, wide;   // factors of x in 16 bits, and in 32
  idx factors, pairs;  // in 16 bits, h and then x; two by two
  Slabs slabs;         // rows: the bias, scales, x in 32 bits, pairs
  explicit NarrowLstm(const Stage& s)
      : bounded(s.bounded ? s.in : 0), wide(s.in - bounded), factors(bounded + s.out), pairs(ceil_div(factors, 2)),
        slabs(s.hidden, 2 + wide + pairs) {}
  idx room() const { return 2 * pairs + 2 * W; }  // for the factors, written in whole vectors
};

inline void pack_narrow(const Stage& s, float* to) {
  const NarrowLstm m(s);
  const auto weight = [&](idx row, idx k) {  // of the factors in 16 bits
    return k < s.out ? s.second[row * s.out + k] : k < m.factors ? s.first[row * s.in + k - s.out] : 0.0f;
  };
  const auto scale_of_row = [&](idx row) {  // what 1 of a product of 16-bit numbers stands for
    double sum = 0, largest = 0;
    for (idx k = 0; k < m.factors; ++k) {
      const double a = std::fabs(double(weight(row, k)));
      sum += a, largest = a > largest ? a : largest;
    }
    // each weight is rounded, by half a step at most
    const double by_sum = sum / (double(most_in_row) - 0.5 * double(m.factors)), by_largest = largest / double(one_in_16);
    // and the scale itself: a little more, so that the sum still fits
    return static_cast<float>((by_sum > by_largest ? by_sum : by_largest) * (1 + 1e-6) / double(one_in_16));
  };
  for (idx slab = 0; slab < m.slabs.count(); ++slab) {
    const auto row_of = [&](auto&& value) {
      m.slabs.each(slab, [&](idx v, idx unit) {
        *to++ = unit < 0 ? 0.0f : part_of_gate(v) * value(v * s.hidden + unit);
      });
    };
    row_of([&](idx row) { return s.bias[row]; });
    const float* scales = to;
    row_of(scale_of_row);
    for (idx k = 0; k < m.wide; ++k) row_of([&](idx row) { return s.first[row * s.in + k]; });
    auto* narrow = reinterpret_cast<std::int16_t*>(to);
    for (idx k = 0; k < 2 * m.pairs; k += 2)
      m.slabs.each(slab, [&, scale = scales](idx v, idx unit) mutable {
        const double step = double(*scale++) / double(part_of_gate(v)) * double(one_in_16);
        for (idx part = 0; part < 2; ++part)
          *narrow++ = static_cast<std::int16_t>(step > 0 ? std::lrint(double(weight(v * s.hidden + unit, k + part)) / step) : 0);
      });
    to = reinterpret_cast<float*>(narrow);
  }
}

template <class U>
using Whole = decltype(U{} < U{});  // 32-bit integers

// A sum of 32-bit integers in each lane. NEON multiplies and adds in one instruction where the products of a pair stay apart
// until the end: half of them in each vector.
template <class U>
#if defined(__aarch64__)
struct Total {
  int32x4_t low, high;
  UNDERTOW_INLINE Whole<U> sum() const { return (Whole<U>)vpaddq_s32(low, high); }
};
#else
struct Total {
  Whole<U> all;
  UNDERTOW_INLINE Whole<U> sum() const { return all; }
};
#endif

// The sum grows by pairs of products. With VNNI that is one instruction, of which compilers need not know.
template <class U, bool vnni>
UNDERTOW_INLINE void add_pairs(Total<U>& total, std::int32_t pair, const std::int16_t* weights) {
#if defined(__aarch64__)
  const int16x8_t both = vreinterpretq_s16_s32(vdupq_n_s32(pair)), w = vld1q_s16(weights);
  total.low = vmlal_s16(total.low, vget_low_s16(both), vget_low_s16(w));
  total.high = vmlal_high_s16(total.high, both, w);
#else
  Whole<U>& sums = total.all;
#if defined(__AVX512BW__)
  if constexpr (sizeof(U) == 64) {
    const __m512i both = _mm512_set1_epi32(pair);
    typedef std::int32_t Pairs __attribute__((vector_size(64), aligned(2), may_alias));
    if constexpr (vnni)
      asm("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(both), "m"(*reinterpret_cast<const Pairs*>(weights)));
    else sums += (Whole<U>)_mm512_madd_epi16(both, _mm512_loadu_si512(weights));
  } else
#endif
#if defined(__AVX2__)
    sums += (Whole<U>)_mm256_madd_epi16(_mm256_set1_epi32(pair),
                                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
#elif defined(__SSE2__)
    sums += (Whole<U>)_mm_madd_epi16(_mm_set1_epi32(pair), _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
#else
  {
    std::int16_t both[2];
    std::memcpy(both, &pair, sizeof both);
    for (int lane = 0; lane < lanes_of<U>; ++lane)
      sums[lane] += both[0] * weights[2 * lane] + both[1] * weights[2 * lane + 1];
  }
#endif
#endif
}

// The nearest of 16 bits; what lies beyond is the last of them, and NaN any of them.
template <class U>
UNDERTOW_INLINE void put_narrow(std::int16_t* to, U given) {
#if defined(__AVX512BW__)
  if constexpr (sizeof(U) == 64) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(given * one_in_16)));
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(U) == 32) {
    const __m256i near = _mm256_cvtps_epi32(given * one_in_16);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packs_epi32(_mm256_castsi256_si128(near), _mm256_extracti128_si256(near, 1)));
    return;
  }
#endif
  typedef std::int16_t Short __attribute__((vector_size(sizeof(U) / 2)));
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: a number added to it is rounded, and stands in its low bits
  const U rounded = bounded(given * one_in_16, one_in_16) + magic;
  const Short half = __builtin_convertvector((Whole<U>)rounded - (Whole<U>)(U{} + magic), Short);
  std::memcpy(to, &half, sizeof half);
}

// 0, or NaN where one is among n numbers: 16 bits have none.
UNDERTOW_INLINE float poison_of(const float* from, idx n) {
  V poison = {};
  for (idx k = 0; k < n; k += W) poison += load(from + k) * 0.0f;
  return across(poison);
}

UNDERTOW_INLINE void to_narrow(const float* from, idx n, std::int16_t* to) {  // whole vectors
  for (idx k = 0; k < n; k += W) put_narrow(to + k, load(from + k));
}

// a: h and x in 16 bits; next: room for the new h. poison: 0 or NaN. `unit`: the first of the slab's.
template <class U, int P, bool vnni>
UNDERTOW_INLINE void narrow_slab(const NarrowLstm& m, const float* weights, idx unit, float poison, const float* x,
                                 const std::int16_t* a, std::int16_t* next, float* c, float* y) {
  constexpr idx stride = P * 4 * lanes_of<U>;
  const float *scales = weights + stride, *of_x = scales + stride;
  const auto* of_pairs = reinterpret_cast<const std::int16_t*>(of_x + m.wide * stride);
  Total<U> total[P][4] = {};
  for (idx k = 0; k < m.pairs; ++k, of_pairs += 2 * stride) {
    std::int32_t pair;
    std::memcpy(&pair, a + 2 * k, sizeof pair);
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < 4; ++v) add_pairs<U, vnni>(total[p][v], pair, of_pairs + (p * 4 + v) * 2 * lanes_of<U>);
  }
  Sums<U, 1, P> sums;
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < 4; ++v) sums[0][p][v] = taken<U>(weights + (p * 4 + v) * lanes_of<U>) + poison;
  for (idx k = 0; k < m.wide; ++k) add_factor<U, 1, P>(sums, {x}, k, of_x + k * stride);
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < 4; ++v)
      sums[0][p][v] += __builtin_convertvector(total[p][v].sum(), U) * taken<U>(scales + (p * 4 + v) * lanes_of<U>);
    const idx at = unit + p * W;
    put_narrow(next + at, store_units<true>(m.slabs.hidden - at, sums[0][p], c + at, y + at));
  }
}

// scratch: h and x in 16 bits, twice: a step reads one and fills the other
template <bool vnni>
void run_narrow(const Stage& s, const float* packed, const Block& b) {
  const NarrowLstm m(s);
  const idx count = m.slabs.count();
  for (idx n = 0; n < b.rows; ++n) {
    auto* a = reinterpret_cast<std::int16_t*>(b.scratch);
    auto* next = a + m.room();
    to_narrow(b.state + n * b.state_row, s.out, a);
    for (idx t = 0; t < b.steps; ++t, std::swap(a, next)) {
      const bool back = m.slabs.far && (t % 2 == 1) != b.back;
      const Rows<1> row(b, whole(s.hidden), t, n);
      to_narrow(row.x[0], m.bounded, a + s.out);
      const float poison = poison_of(row.x[0], m.bounded) + poison_of(row.h[0], s.out);
      for (idx k = 0; k < count; ++k) {
        const idx slab = m.slabs.turned(k, back), unit = m.slabs.panel(slab) * W;
        const float* weights = packed + m.slabs.begin(slab);
        const auto take = [&]<class U, int P>() __attribute__((always_inline)) {
          narrow_slab<U, P, vnni>(m, weights, unit, poison, row.x[0], a, next, row.c[0], row.y[0]);
        };
        if (m.slabs.is_tail(slab)) take.template operator()<Half, 1>();
        else if (m.slabs.in_slab(slab) == 1) take.template operator()<V, 1>();
        else if constexpr (together == 2) take.template operator()<V, 2>();
      }
    }
  }
}

}  // namespace
}  // namespace undertow
