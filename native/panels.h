// How weights are laid out for the tile: panels of 4 vectors, so that one tile holds everything a unit needs.
//
// LSTM: panel p holds units p*W .. p*W+W-1 (W lanes); vector v is gate v of those units.
// RNN:  panel p holds units p*4W .. p*4W+4W-1; vector v is the v-th W of them.
// Lanes past H are zero throughout, so that they add nothing to any sum.
#pragma once
#include "simd.h"

namespace undertow {
namespace {

// Rounding grows with the length of a sum. More than `longest_sum` factors of x_t are added up in pieces, many pieces in
// sections, and sections in the whole.
constexpr idx longest_sum = 512, piece = 128, section = 16 * piece;

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

// Some last groups fill at most half a vector, e.g. dx of 8 inputs in float32. Where vectors are computed in two halves,
// one half takes half the time.
template <class S>
constexpr bool has_halves = vector_bytes == 64 && parts<S> == 1;
template <class S>
bool is_half(idx q, idx columns) {
  return has_halves<S> && columns - q * Panels<Real<S>>::width <= lanes<Real<S>> / 2;
}

// Calls f(v, k, columns, square) for all of one panel's rows of weight [G*H,K], across the diagonal: square[i] holds
// factor k + i of the rows that make up vector v, for i < columns.
template <class S, class F>
UNDERTOW_INLINE void each_square(const Panels<Real<S>>& panels, idx p, const S* weight, idx K, F&& f) {
  constexpr idx W = lanes<Real<S>>;
  for (idx v = 0; v < 4; ++v)
    for (idx k = 0; k < K; k += W * parts<S>) {
      const idx valid = panels.valid(p, v), left = K - k;
      const S* from = weight + panels.row(p, v) * K + k;
      Vec<Factor<S>> square[W];
      for (idx lane = 0; lane < W; ++lane)
        square[lane] = lane < valid ? load_factors<S>(from + lane * K, left) : Vec<Factor<S>>{};
      transpose<Factor<S>>(square);
      f(v, k / parts<S>, least(W, ceil_div(left, parts<S>)), square);
    }
}

// weight [G*H,K] -> out[k][v][lane], one panel.
template <class S>
void pack_transposed(const Panels<Real<S>>& panels, idx p, const S* weight, idx K, Factor<S>* out) {
  constexpr idx W = lanes<Real<S>>;
  each_square(panels, p, weight, K, [&](idx v, idx k, idx columns, const Vec<Factor<S>>(&square)[W]) {
    for (idx i = 0; i < columns; ++i) store(out + ((k + i) * 4 + v) * W, square[i]);
  });
}

// sums[v] += weight [G*H,K] times a [K], one panel: what packing and multiplying would give, for one row.
template <class S>
void multiply_once(const Panels<Real<S>>& panels, idx p, const S* weight, idx K, const Factor<S>* a,
                   Vec<Real<S>> (&sums)[4]) {
  constexpr idx W = lanes<Real<S>>;
  each_square(panels, p, weight, K, [&](idx v, idx k, idx columns, const Vec<Factor<S>>(&square)[W]) {
    for (idx i = 0; i < columns; ++i) sums[v] = fused(sums[v], a[k + i], square[i]);
  });
}

// The same in pieces and sections, for any K.
template <class S>
void multiply_once_in_pieces(const Panels<Real<S>>& panels, idx p, const S* weight, idx K, const Factor<S>* a,
                             Vec<Real<S>> (&sums)[4]) {
  constexpr idx W = lanes<Real<S>>;
  Vec<Real<S>> of_piece[4] = {}, of_section[4] = {};
  const auto move = [](Vec<Real<S>>& from, Vec<Real<S>>& to) {
    to += from;
    from = Vec<Real<S>>{};
  };
  each_square(panels, p, weight, K, [&](idx v, idx k, idx columns, const Vec<Factor<S>>(&square)[W]) {
    if (k && k % piece == 0) move(of_piece[v], of_section[v]);
    if (k && k % section == 0) move(of_section[v], sums[v]);
    for (idx i = 0; i < columns; ++i) of_piece[v] = fused(of_piece[v], a[k + i], square[i]);
  });
  for (idx v = 0; v < 4; ++v) {
    move(of_piece[v], of_section[v]);
    move(of_section[v], sums[v]);
  }
}

// The inverse of packing, for sums: in[k][v][lane] -> weight [G*H,K].
template <class S>
void unpack_transposed(const Panels<Real<S>>& panels, idx p, const Real<S>* in, idx K, S* weight) {
  using T = Real<S>;
  constexpr idx W = lanes<T>;
  for (idx v = 0; v < 4; ++v)
    for (idx k = 0; k < K; k += W) {
      const idx columns = least(W, K - k);
      Vec<T> square[W];
      for (idx i = 0; i < W; ++i) square[i] = i < columns ? load(in + ((k + i) * 4 + v) * W) : Vec<T>{};
      transpose<T>(square);
      S* to = weight + panels.row(p, v) * K + k;
      for (idx lane = 0; lane < panels.valid(p, v); ++lane) store(to + lane * K, square[lane], columns);
    }
}

// weight [G*H,columns] -> out[row'][packed], the q-th group of columns, rows in panel order, as many to a factor as it has
// parts. The last group's rows are as long as its vectors: they fit the first cache more often.
template <class S>
void pack_columns(const Panels<Real<S>>& panels, idx q, const S* weight, idx columns, Factor<S>* out) {
  using K = Kept<S>;
  constexpr idx W = lanes<Real<S>>, width = 4 * W;
  const idx wide = least(width, columns - q * width);
  const idx packed = is_half<S>(q, columns) ? W / 2 : column_vectors<Real<S>>(q, columns) * W;
  K row[width];
  for (idx p = 0; p < panels.count(); ++p)
    for (idx v = 0; v < 4; ++v)
      for (idx lane = 0; lane < W; ++lane) {
        const bool used = lane < panels.valid(p, v);
        const S* from = weight + (panels.row(p, v) + lane) * columns + q * width;
        copy(row, used ? from : nullptr, used ? wide : packed);
        for (idx j = wide; j < packed; ++j) row[j] = K{};
        const idx at = (p * 4 + v) * W + lane;
        K* to = reinterpret_cast<K*>(out + at / parts<S> * packed) + at % parts<S>;
        for (idx j = 0; j < packed; ++j) to[j * parts<S>] = row[j];
      }
}

}  // namespace
}  // namespace undertow
