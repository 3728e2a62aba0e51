// Vectors of the widest kind the compiler was told of, by the compiler's own vector extensions. Included
// once per instruction-set level; everything here lives in an unnamed namespace so that no code compiled
// for one level can be linked into another.
#pragma once
#include <cstring>

#include "lstm.h"

namespace undertow {
namespace {

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

// The first n lanes, for the units left over when H is no multiple of the lanes; the rest read as zero.
template <class T>
UNDERTOW_INLINE Vec<T> load(const T* p, idx n) {
  if (n >= lanes<T>) return load(p);
  Vec<T> v = {};
  for (idx i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

template <class T>
UNDERTOW_INLINE void store(T* p, Vec<T> v, idx n) {
  if (n >= lanes<T>) return store(p, v);
  for (idx i = 0; i < n; ++i) p[i] = v[i];
}

}  // namespace
}  // namespace undertow
