// How weights are laid out for the tile: panels of 4 vectors, so that one tile holds everything a unit needs.
//
// LSTM: panel p holds units p*W .. p*W+W-1 (W lanes); vector v is gate v of those units.
// RNN:  panel p holds units p*4W .. p*4W+4W-1; vector v is the v-th W of them.
// Lanes past H are zero throughout, so that they add nothing to any sum.
#pragma once
#include "simd.h"

namespace undertow {
namespace {

constexpr idx ceil_div(idx a, idx b) { return (a + b - 1) / b; }
constexpr idx least(idx a, idx b) { return a < b ? a : b; }
constexpr idx most(idx a, idx b) { return a > b ? a : b; }

template <class T>
struct Panels {
  static constexpr idx W = lanes<T>;
  static constexpr idx width = 4 * W;
  Cell cell;
  idx hidden;

  idx count() const { return ceil_div(hidden, cell == Cell::lstm ? W : width); }
  idx unit(idx p, idx v) const { return cell == Cell::lstm ? p * W : p * width + v * W; }
  idx row(idx p, idx v) const { return cell == Cell::lstm ? v * hidden + p * W : p * width + v * W; }
  idx valid(idx p, idx v) const { return most(0, least(W, hidden - unit(p, v))); }
  int vectors(idx p) const {  // that hold any unit
    return cell == Cell::lstm ? 4 : static_cast<int>(least(4, ceil_div(hidden - p * width, W)));
  }
};

// Vectors of columns in the q-th group of 4: fewer in the last.
template <class T>
int column_vectors(idx q, idx columns) {
  return static_cast<int>(least(4, ceil_div(columns - q * Panels<T>::width, lanes<T>)));
}

// weight [G*H,K] -> out[k][v][lane], one panel: the unrolled dimension last, a few k at a time so that both the
// rows read and the vectors written stay in the first cache.
template <class T>
void pack_transposed(const Panels<T>& panels, idx p, const T* weight, idx K, T* out) {
  constexpr idx W = lanes<T>, some = 16;
  for (idx k0 = 0; k0 < K; k0 += some)
    for (idx v = 0; v < 4; ++v) {
      const idx valid = panels.valid(p, v), end = least(K, k0 + some);
      const T* from = weight + panels.row(p, v) * K;
      for (idx lane = 0; lane < valid; ++lane)
        for (idx k = k0; k < end; ++k) out[(k * 4 + v) * W + lane] = from[lane * K + k];
      for (idx lane = valid; lane < W; ++lane)
        for (idx k = k0; k < end; ++k) out[(k * 4 + v) * W + lane] = T(0);
    }
}

// The inverse, for sums: in[k][v][lane] -> weight [G*H,K].
template <class T>
void unpack_transposed(const Panels<T>& panels, idx p, const T* in, idx K, T* weight) {
  constexpr idx W = lanes<T>, some = 16;
  for (idx k0 = 0; k0 < K; k0 += some)
    for (idx v = 0; v < 4; ++v) {
      const idx valid = panels.valid(p, v), end = least(K, k0 + some);
      T* to = weight + panels.row(p, v) * K;
      for (idx lane = 0; lane < valid; ++lane)
        for (idx k = k0; k < end; ++k) to[lane * K + k] = in[(k * 4 + v) * W + lane];
    }
}

// weight [G*H,columns] -> out[row'][4W], the q-th group of columns, rows in panel order.
template <class T>
void pack_columns(const Panels<T>& panels, idx q, const T* weight, idx columns, T* out) {
  constexpr idx W = lanes<T>, width = 4 * W;
  const idx wide = least(width, columns - q * width);
  for (idx p = 0; p < panels.count(); ++p)
    for (idx v = 0; v < 4; ++v)
      for (idx lane = 0; lane < W; ++lane, out += width) {
        const bool used = lane < panels.valid(p, v);
        const T* from = weight + (panels.row(p, v) + lane) * columns + q * width;
        for (idx j = 0; j < width; ++j) out[j] = used && j < wide ? from[j] : T(0);
      }
}

}  // namespace
}  // namespace undertow
