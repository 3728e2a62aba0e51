// The streaming runtime's LSTM without additions, weights in float32.
//
// What limits its speed: with few units the chain from h_{t-1} to h_t, most of it activations; with many, loading the
// weights from the caches. The factors of a sum come in two halves, so that a lone panel has enough sums under way.
// Weights beyond the first cache are gone through in one direction at one step and in the other at the next, which so
// begins with what the cache still holds.
#pragma once
#include "streaming_math.h"

namespace undertow {
namespace {

constexpr idx width = 4 * W;  // of a panel
constexpr idx together = W == 16 ? 1 : 2;  // panels of a slab: as many as give enough sums

// How an LSTM's weights lie: slabs of panels of units, each slab so many rows, of the bias, of a factor, of two factors in
// 16 bits. The last units make half a panel where a whole one would be half empty.
struct Slabs {
  idx hidden, rows;
  idx panels;      // whole ones
  bool tail, far;  // half a panel follows; the weights lie beyond the first cache
  Slabs(idx hidden, idx rows) : hidden(hidden), rows(rows) {
    const idx left = hidden % W;
    tail = half_lanes < W && left && left <= half_lanes;
    panels = tail ? hidden / W : ceil_div(hidden, W);
    far = floats() * idx{sizeof(float)} > first_cache;
  }
  idx floats() const { return rows * (panels * width + (tail ? 4 * half_lanes : 0)); }
  idx count() const { return ceil_div(panels, together) + tail; }
  bool is_tail(idx slab) const { return slab * together >= panels; }
  idx in_slab(idx slab) const { return least(together, panels - slab * together); }
  idx panel(idx slab) const { return least(slab * together, panels); }  // its first
  idx begin(idx slab) const { return panel(slab) * width * rows; }

  // Calls f(v, unit) for each place of a row of a slab; unit is -1 where there is none.
  template <class F>
  void each(idx slab, F&& f) const {
    const idx size = is_tail(slab) ? half_lanes : W;
    for (idx p = panel(slab); p < panel(slab) + (is_tail(slab) ? 1 : in_slab(slab)); ++p)
      for (idx v = 0; v < 4; ++v)
        for (idx unit = p * W; unit < p * W + size; ++unit) f(v, unit < hidden ? unit : -1);
  }
  // The same slabs from the other end.
  idx turned(idx slab, bool back) const { return back ? count() - 1 - slab : slab; }

 private:
  static constexpr idx first_cache = 30 << 10;  // of 32 KiB, what x, h and c leave
};

// R rows of a block at one step; c stands behind h in the state.
template <int R>
struct Rows {
  const float *x[R], *h[R];
  float *c[R], *y[R];
  UNDERTOW_INLINE Rows(const Block& b, idx c_at, idx t, idx first) {
    for (int r = 0; r < R; ++r) {
      const idx n = first + r;
      float* state = b.state + n * b.state_row;
      x[r] = b.x + (t * b.rows + n) * b.x_row;
      y[r] = b.y + (t * b.rows + n) * b.y_row;
      h[r] = t ? y[r] - b.rows * b.y_row : state;
      c[r] = state + c_at;
    }
  }
};

struct Lstm {
  idx in, half;  // factors of x, and of h in each half
  Slabs slabs;   // rows: the bias, x, h
  explicit Lstm(const Stage& s) : in(s.in), half(ceil_div(s.out, 2)), slabs(s.hidden, 1 + s.in + 2 * half) {}
};

inline void pack_lstm(const Stage& s, float* to) {
  const Lstm m(s);
  for (idx slab = 0; slab < m.slabs.count(); ++slab)
    for (idx k = -1; k < m.slabs.rows - 1; ++k)
      m.slabs.each(slab, [&](idx v, idx unit) {
        const idx row = v * s.hidden + unit, of_h = k - s.in;
        const bool there = unit >= 0 && of_h < s.out;
        const float* from = k < 0 ? s.bias + row : of_h < 0 ? s.first + row * s.in + k : s.second + row * s.out + of_h;
        *to++ = there ? part_of_gate(v) * *from : 0.0f;
      });
}

template <class U, int R, int P>
using Sums = U[R][P][4];

// sums += a[.][k] times the row of weights at w.
template <class U, int R, int P>
UNDERTOW_INLINE void add_factor(Sums<U, R, P>& sums, const float* const (&a)[R], idx k, const float* w) {
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < 4; ++v) {
      const U weight = taken<U>(w + (p * 4 + v) * lanes_of<U>);
      for (int r = 0; r < R; ++r) sums[r][p][v] += a[r][k] * weight;
    }
}

enum class Order { whole, both, turns };  // of the factors of h: one sum; two halves side by side; one after the other

// One step of P panels of a slab, whose rows are `stride` apart. `unit`: the first of theirs; `back`: the second half first.
template <class U, int R, int P, Order order>
UNDERTOW_INLINE void panels_of(const Lstm& m, const float* weights, idx stride, idx unit, bool back, const Rows<R>& rows) {
  const float *of_x = weights + stride, *of_h = of_x + m.in * stride;
  Sums<U, R, P> sums, other;
  const auto each = [&](auto&& f) __attribute__((always_inline)) {
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < 4; ++v) f(r, p, v);
  };
  const auto begin = [&]() __attribute__((always_inline)) {
    each([&](int r, int p, int v) { sums[r][p][v] = taken<U>(weights + (p * 4 + v) * lanes_of<U>); });
    for (idx k = 0; k < m.in; ++k) add_factor<U, R, P>(sums, rows.x, k, of_x + k * stride);
  };
  const auto add = [&](idx from, idx end) __attribute__((always_inline)) {
    for (idx k = from; k < end; ++k) add_factor<U, R, P>(sums, rows.h, k, of_h + k * stride);
  };
  const auto take_half = [&](bool second) __attribute__((always_inline)) {
    if (second) each([&](int r, int p, int v) { sums[r][p][v] = U{}; });
    else begin();
    add(second ? m.half : 0, second ? 2 * m.half : m.half);
  };
  if constexpr (order == Order::whole) {
    begin();
    add(0, 2 * m.half);
  } else if constexpr (order == Order::both) {
    begin();
    each([&](int r, int p, int v) { other[r][p][v] = U{}; });
    for (idx k = 0; k < m.half; ++k) {
      add_factor<U, R, P>(sums, rows.h, k, of_h + k * stride);
      add_factor<U, R, P>(other, rows.h, m.half + k, of_h + (m.half + k) * stride);
    }
  } else {
    take_half(back);
    each([&](int r, int p, int v) { other[r][p][v] = sums[r][p][v]; });
    take_half(!back);
  }
  if constexpr (order != Order::whole) each([&](int r, int p, int v) { sums[r][p][v] += other[r][p][v]; });
  for (int p = 0; p < P; ++p)
    for (int r = 0; r < R; ++r) {
      const idx at = unit + p * W;
      store_units(m.slabs.hidden - at, sums[r][p], rows.c[r] + at, rows.y[r] + at);
    }
}

// The order of a sum depends on the layer alone, or its bits would depend on R. (Both halves give the same either way.)
template <int R>
UNDERTOW_INLINE void slab_of(const Lstm& m, idx slab, const float* packed, bool back, const Rows<R>& rows) {
  constexpr Order near = R == 1 ? Order::both : Order::turns;
  const float* weights = packed + m.slabs.begin(slab);
  const idx unit = m.slabs.panel(slab) * W;
  if (m.slabs.is_tail(slab)) return panels_of<Half, R, 1, near>(m, weights, 4 * half_lanes, unit, back, rows);
  if (m.slabs.in_slab(slab) == 1) {
    if (m.slabs.far) return panels_of<V, R, 1, Order::turns>(m, weights, width, unit, back, rows);
    return panels_of<V, R, 1, near>(m, weights, width, unit, back, rows);
  }
  if constexpr (together == 2) {
    constexpr int P = R == 1 ? 2 : 1;
    for (idx p = 0; p < 2; p += P) {
      const float* from = weights + p * width;
      if (m.slabs.far) panels_of<V, R, P, Order::turns>(m, from, 2 * width, unit + p * W, back, rows);
      else panels_of<V, R, P, Order::whole>(m, from, 2 * width, unit + p * W, back, rows);
    }
  }
}

#if defined(__AVX2__)
UNDERTOW_INLINE V everywhere(V v, IVec<float> lane) {
#if defined(__AVX512F__)
  return _mm512_permutexvar_ps((__m512i)lane, v);
#else
  return _mm256_permutevar8x32_ps(v, (__m256i)lane);
#endif
}
#if defined(__AVX512F__)
UNDERTOW_INLINE Half everywhere(Half v, IVec<float> lane) {
  return _mm256_permutevar8x32_ps(v, _mm512_castsi512_si256((__m512i)lane));
}
#endif

// One row of a layer of a single panel: h and c stay in registers. Bit for bit what panels_of gives.
template <class U>
void run_alone(const Lstm& m, const float* packed, const Block& b) {
  constexpr idx stride = 4 * lanes_of<U>;
  const float *of_x = packed + stride, *of_h = of_x + m.in * stride, *x = b.x;
  float *y = b.y, *cells = b.state + W;
  U h = taken<U>(b.state), c = taken<U>(cells);
  for (idx t = 0; t < b.steps; ++t, x += b.x_row, y += b.y_row) {
    Sums<U, 1, 1> sums, other = {};
    for (int v = 0; v < 4; ++v) sums[0][0][v] = taken<U>(packed + v * lanes_of<U>);
    for (idx k = 0; k < m.in; ++k) add_factor<U, 1, 1>(sums, {x}, k, of_x + k * stride);
    IVec<float> lane{}, second = lane + static_cast<std::int32_t>(m.half);
    const float *w = of_h, *w_second = of_h + m.half * stride;
    for (idx k = 0; k < m.half; ++k, lane += 1, second += 1, w += stride, w_second += stride) {
      const U a = everywhere(h, lane), a_second = everywhere(h, second);
      for (int v = 0; v < 4; ++v) {
        sums[0][0][v] += a * taken<U>(w + v * lanes_of<U>);
        other[0][0][v] += a_second * taken<U>(w_second + v * lanes_of<U>);
      }
    }
    for (int v = 0; v < 4; ++v) sums[0][0][v] += other[0][0][v];
    h = first_of(next_state(sums[0][0], c), m.slabs.hidden);
    c = first_of(c, m.slabs.hidden);
    put(y, h);
  }
  put(cells, c);
}
#endif

inline void run_lstm(const Stage& s, const float* packed, const Block& b) {
  const Lstm m(s);
#if defined(__AVX2__)
  if (b.rows == 1 && s.hidden <= W) return m.slabs.tail ? run_alone<Half>(m, packed, b) : run_alone<V>(m, packed, b);
#endif
  const idx count = m.slabs.count(), c_at = whole(s.hidden);
  for (idx t = 0; t < b.steps; ++t) {
    const bool back = m.slabs.far && (t % 2 == 1) != b.back;
    for (idx k = 0; k < count; ++k) {
      const idx slab = m.slabs.turned(k, back);
      idx n = 0;
      for (; n + tile_rows <= b.rows; n += tile_rows)
        slab_of<tile_rows>(m, slab, packed, back, Rows<tile_rows>(b, c_at, t, n));
      for (; n < b.rows; ++n) slab_of<1>(m, slab, packed, back, Rows<1>(b, c_at, t, n));
    }
  }
}

}  // namespace
}  // namespace undertow
