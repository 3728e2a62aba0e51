// The one inner loop. acc[r][p][v] += sum over k of a[r][k] * b[p][k][v], in the order of k, whatever R, P and
// V are: a row's result does not depend on the tile it was computed in.
#pragma once
#include "panels.h"

namespace undertow {
namespace {

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

  // f(sum, r, p, v) for all sums.
  template <class F>
  UNDERTOW_INLINE void each_sum(F&& f) {
    each<R * P * V>([&](auto i) UNDERTOW_INLINED {
      constexpr int n = decltype(i)::value, r = n / (P * V), p = n / V % P, v = n % V;
      f(acc[r][p][v], r, p, v);
    });
  }

  UNDERTOW_INLINE void clear() {
    each_sum([](Vec<T>& sum, int, int, int) UNDERTOW_INLINED { sum = Vec<T>{}; });
  }

  UNDERTOW_INLINE void add(const Tile& other) {
    each_sum([&](Vec<T>& sum, int r, int p, int v) UNDERTOW_INLINED { sum += other.acc[r][p][v]; });
  }

  // a[r] + k*a_k: row r's k-th factor. b + p*b_panel + k*b_k: V vectors. On the way, `next` and the K vectors from
  // there are called into the second cache, for whoever comes next.
  template <class F>
  UNDERTOW_INLINE void multiply(const F* const (&rows)[R], idx a_k, const F* b, idx b_panel, idx b_k, idx K,
                                const F* next) {
    const F* a[R];
    each<R>([&](auto r) UNDERTOW_INLINED { a[r.value] = rows[r.value]; });
    for (idx k = 0; k < K; ++k) {
      __builtin_prefetch(next + k * lanes<F>, 0, 2);
      each<P>([&](auto p) UNDERTOW_INLINED {
        Vec<F> bv[V];
        each<V>([&](auto v) UNDERTOW_INLINED { bv[v.value] = load(b + p.value * b_panel + v.value * lanes<F>); });
        each<R>([&](auto r) UNDERTOW_INLINED {
          each<V>([&](auto v) UNDERTOW_INLINED {
            acc[r.value][p.value][v.value] = fused(acc[r.value][p.value][v.value], a[r.value][k * a_k], bv[v.value]);
          });
        });
      });
      b += b_k;
    }
  }
};

}  // namespace
}  // namespace undertow
