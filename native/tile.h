// The one inner loop. acc[r][p][v] += sum over k of a[r][k] * b[p][k][v], in the order of k, whatever R, P and
// V are: a row's result does not depend on the tile it was computed in.
#pragma once
#include "panels.h"

namespace undertow {
namespace {

template <int N>
struct Int {
  static constexpr int value = N;
};

// Calls f with Int<n>, for n in 1..Max: the run-time extent of a tile as a compile-time one.
template <int Max, class F>
UNDERTOW_INLINE void with_extent(int n, F&& f) {
  if constexpr (Max > 1) {
    if (n < Max) return with_extent<Max - 1>(n, f);
  }
  f(Int<Max>{});
}

// Few rows leave registers free: take several panels at once, so that enough sums are under way.
constexpr int panels_at_once(int rows) {
  return rows * 8 > accumulators ? 1 : rows * 16 > accumulators ? 2 : 4;
}

template <class T, int R, int P, int V>
struct Tile {
  Vec<T> acc[R][P][V];

  UNDERTOW_INLINE void clear() {
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < V; ++v) acc[r][p][v] = Vec<T>{};
  }

  UNDERTOW_INLINE void add(const Tile& other) {
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < V; ++v) acc[r][p][v] += other.acc[r][p][v];
  }

  // a[r] + k*a_k: row r's k-th factor. b + p*b_panel + k*b_k: V vectors. On the way, `next` and the K vectors from
  // there are called into the second cache, for whoever comes next.
  template <class F>
  UNDERTOW_INLINE void multiply(const F* const (&rows)[R], idx a_k, const F* b, idx b_panel, idx b_k, idx K,
                                const F* next) {
    const F* a[R];
    for (int r = 0; r < R; ++r) a[r] = rows[r];
    for (idx k = 0; k < K; ++k) {
      __builtin_prefetch(next + k * lanes<F>, 0, 2);
      for (int p = 0; p < P; ++p) {
        Vec<F> bv[V];
        for (int v = 0; v < V; ++v) bv[v] = load(b + p * b_panel + v * lanes<F>);
        for (int r = 0; r < R; ++r)
          for (int v = 0; v < V; ++v) acc[r][p][v] = fused(acc[r][p][v], a[r][k * a_k], bv[v]);
      }
      b += b_k;
    }
  }
};

}  // namespace
}  // namespace undertow
