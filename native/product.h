// Gradients of the gates times packed weights, for rows of a block: what dx and dh_{t-1} are made of.
#pragma once
#include "split.h"

namespace undertow {
namespace {

template <class S>
class Product {
  using T = Real<S>;
  using F = Factor<S>;
  using K = Kept<S>;
  static constexpr idx W = lanes<T>, width = Panels<T>::width;

 public:
  static constexpr idx panel_factors = width * width / parts<S>;
  const K* dgates;   // [P][capacity][4][W]
  idx capacity, P;
  const F* weights;  // [q][P][4*W / parts][4W], in the last group of columns as many vectors as they fill
  idx columns;

  // out[i][0..columns) = dgates of row begin + i [4H] times the packed weights, up to row end. A piece of
  // the weights that stays in cache goes past all rows before the next one; sums under way wait in `out`.
  void take(Share column_groups, Share rows, T* const* out) const {
    const int few = static_cast<int>(least(tile_rows, rows.end - rows.begin));
    for (idx q = column_groups.begin; q < column_groups.end;) {
      if constexpr (has_halves<S>)
        if (is_half<S>(q, columns)) return take_half(q, rows, out);
      const bool wide = few && few == rows.end - rows.begin && q + panels_at_once(few) <= column_groups.end &&
                        (q + panels_at_once(few)) * width <= columns;
      for (idx from = 0; from < P; from += panels_in_cache) {
        const Share piece{from, least(P, from + panels_in_cache)};
        each_tile(rows, [&](auto r, idx row, idx number) {
          constexpr int R = decltype(r)::value;
          const Place place{q, row, piece, out + (row - rows.begin), least(3, number)};
          if (wide) return take_piece<R, panels_at_once(R), 4>(place);
          with_extent<4>(column_vectors<T>(q, columns), [&](auto v) { take_piece<R, 1, decltype(v)::value>(place); });
        });
      }
      q += wide ? panels_at_once(few) : 1;
    }
  }

 private:
  // The last columns, half a vector of them: more rows at once, for as many sums under way.
  UNDERTOW_APART void take_half(idx q, Share rows, T* const* out) const {
    const auto tile = [&](auto r, idx row) {
      constexpr int R = decltype(r)::value;
      HalfVec<T> sums[R] = {};
      const T* b = weights + q * P * panel_factors;
      for (idx p = 0; p < P; ++p) {
        const T* a = dgates_at(p, row);
        for (idx k = 0; k < width; ++k, b += W / 2) {
          HalfVec<T> factors;
          std::memcpy(&factors, b, sizeof factors);
          each<R>([&](auto i) UNDERTOW_INLINED { sums[i.value] += a[i.value * width + k] * factors; });
        }
      }
      each<R>([&](auto i) UNDERTOW_INLINED {
        store_half(out[row - rows.begin + i.value] + q * width, sums[i.value], columns - q * width);
      });
    };
    constexpr int many = 12, some = 4;
    idx row = rows.begin;
    for (; row + many <= rows.end; row += many) tile(Int<many>{}, row);
    for (; row + some <= rows.end; row += some) tile(Int<some>{}, row);
    for (; row < rows.end; ++row) tile(Int<1>{}, row);
  }

  static constexpr idx panels_in_cache = (idx{1} << 18) / (panel_factors * sizeof(F));  // 256 KiB of weights

  struct Place {
    idx q, row;     // the first column group and row of the tile
    Share piece;    // panels to sum over
    T* const* out;  // where its rows go
    idx quarter;    // of the next piece, that this tile calls into the cache
  };

  const K* dgates_at(idx p, idx row) const { return dgates + (p * capacity + row) * width; }

  // The part of that sum over the panels in a piece, for R rows and Q groups of V vectors of columns.
  template <int R, int Q, int V>
  void take_piece(const Place& place) const {
    const idx q = place.q, row = place.row;
    const Share piece = place.piece;
    constexpr idx depth = width / parts<S>;
    constexpr idx panel = depth * V * W;
    const F* group = weights + q * P * panel_factors;
    const F* next = group + piece.end * panel + place.quarter * (piece.end - piece.begin) * depth * W;
    Tile<T, R, Q, V> tile;
    const auto column = [&](int g, int v) UNDERTOW_INLINED { return (place.q + g) * width + v * W; };
    if (place.piece.begin == 0) tile.clear();
    else
      tile.each_sum([&](Vec<T>& sum, int r, int g, int v) UNDERTOW_INLINED {
        sum = load(place.out[r] + column(g, v), columns - column(g, v));
      });
    for (idx p = piece.begin; p < piece.end; ++p) {
      const F* rows[R];
      for (int r = 0; r < R; ++r) {
        rows[r] = reinterpret_cast<const F*>(dgates_at(p, row + r));
        const K* ahead = dgates_at(least(p + 1, P - 1), row + r);  // too short for the processor to guess
        for (int v = 0; v < 4; ++v) __builtin_prefetch(ahead + v * W);
      }
      tile.multiply(rows, 1, group + p * panel, P * panel_factors, V * W, depth, next);
      next += depth * W;
    }
    tile.each_sum([&](const Vec<T>& sum, int r, int g, int v) UNDERTOW_INLINED {
      store(place.out[r] + column(g, v), sum, columns - column(g, v));
    });
  }
};

}  // namespace
}  // namespace undertow
