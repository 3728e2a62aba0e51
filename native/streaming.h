// The stages of the streaming runtime (stream.h), for one instruction-set level.
#pragma once
#include "streaming_narrow.h"

namespace undertow {
namespace {

#if defined(__AVX512F__)
constexpr int most_panels = 6;  // whose sums fit the registers
#else
constexpr int most_panels = 3;
#endif

// ---- plain RNNs, LSTMs with additions: panels of units as in panels.h, some of them side by side for each factor ----

constexpr bool of_lstm(const Stage& s) { return s.kind == Kind::lstm; }
inline bool plain(const Stage& s) { return of_lstm(s) && !s.varied() && !s.narrow; }
constexpr idx panel_count(const Stage& s) { return ceil_div(s.hidden, of_lstm(s) ? W : width); }
// A single panel's sums are two, of even and of odd factors of h, so that enough of them are under way.
constexpr bool alone(const Stage& s) { return panel_count(s) == 1; }
// Panels of a group: all groups of about one size, so that each has enough sums under way.
constexpr idx group_size(const Stage& s) { return ceil_div(panel_count(s), ceil_div(panel_count(s), most_panels)); }
constexpr idx h_factors(const Stage& s) { return alone(s) ? whole(s.out, 2) : s.out; }
constexpr idx depth(const Stage& s) { return s.in + h_factors(s); }
// Halved where the gate is a sigmoid, which is tanh of half the sum. Layer normalisation halves its gains instead.
constexpr float part_of_sum(const Stage& s, idx v) { return of_lstm(s) ? part_of_gate(v) : 1.0f; }
constexpr idx padded_hidden(const Stage& s) { return whole(s.hidden); }
constexpr idx padded_out(const Stage& s) { return whole(s.out); }

struct Recurrent {  // the packed arrays, and sizes that would cost a division a step
  const float *bias, *weights;  // [p][4][W]; by groups of panels [depth][panel][4][W]
  const idx count, group, depth, h_factors, row;  // row: of the state, where c begins
  Recurrent(const Stage& s, const float* packed)
      : bias(packed), weights(packed + panel_count(s) * width), count(panel_count(s)), group(group_size(s)),
        depth(undertow::depth(s)), h_factors(undertow::h_factors(s)), row(padded_out(s)) {}
};

// The sums of P panels and R rows, then `finish(row, panel, sums)`.
template <int R, int P, bool halved, class Finish>
UNDERTOW_INLINE void rnn_panels(const Stage& s, idx h_factors, const float* bias, const float* weights, idx stride,
                               const float* const (&x)[R], const float* const (&h)[R], Finish&& finish) {
  V sums[R][P][4], odd[halved ? R : 1][P][4];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < 4; ++v)
      for (int r = 0; r < R; ++r) sums[r][p][v] = load(bias + (p * 4 + v) * W);
  const auto add = [&](auto& to, const float* const (&a)[R], idx k) __attribute__((always_inline)) {
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < 4; ++v) {
        const V w = load(weights + (p * 4 + v) * W);
        for (int r = 0; r < R; ++r) to[r][p][v] += a[r][k] * w;
      }
    weights += stride;
  };
  for (idx k = 0; k < s.in; ++k) add(sums, x, k);
  if constexpr (halved) {
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < 4; ++v) odd[r][p][v] = V{};
    for (idx k = 0; k < h_factors; k += 2) {
      add(sums, h, k);
      add(odd, h, k + 1);
    }
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < 4; ++v) sums[r][p][v] += odd[r][p][v];
  } else {
    for (idx k = 0; k < h_factors; ++k) add(sums, h, k);
  }
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) finish(r, p, sums[r][p]);
}

struct FinishUnits {
  const Stage& s;
  idx begin;  // the first panel
  float* const* y;
  UNDERTOW_INLINE void operator()(int r, int p, const V (&sums)[4]) const {
    const idx at = (begin + p) * width;
    for (idx v = 0; v < 4 && at + v * W < s.hidden; ++v) {
      const V h = s.activation == Activation::relu ? larger<float>(V{}, sums[v]) : quick_tanh(sums[v]);
      store(y[r] + at + v * W, first<float>(h, s.hidden - at - v * W));
    }
  }
};

// One step of R rows of a plain RNN, all panels: of one row several panels at a time, else one by one. The sums are
// the same.
template <int R>
UNDERTOW_INLINE void rnn_rows(const Stage& s, const Recurrent& packed, const Rows<R>& rows) {
  const idx count = packed.count, K = packed.h_factors;
  for (idx p = 0; p < count; p += packed.group) {
    const int group = static_cast<int>(least(packed.group, count - p));
    const float *bias = packed.bias + p * width, *weights = packed.weights + p * width * packed.depth;
    if (count == 1) {
      rnn_panels<R, 1, true>(s, K, bias, weights, width, rows.x, rows.h, FinishUnits{s, p, rows.y});
    } else if constexpr (R == 1) {
      with_extent<most_panels>(group, [&](auto P) __attribute__((always_inline)) {
        rnn_panels<1, P.value, false>(s, K, bias, weights, group * width, rows.x, rows.h, FinishUnits{s, p, rows.y});
      });
    } else {
      for (idx q = 0; q < group; ++q)
        rnn_panels<R, 1, false>(s, K, bias + q * width, weights + q * width, group * width, rows.x, rows.h,
                               FinishUnits{s, p + q, rows.y});
    }
  }
}

// ---- dense layers: rows of weights for few outputs, else panels of 4 vectors of outputs ----

constexpr bool by_rows(idx out) { return out <= W / 2; }
constexpr idx packed_dense(idx in, idx out) {
  return whole(out) + (by_rows(out) ? out * whole(in) : whole(out) * in);
}

inline void pack_dense(idx in, idx out, const float* weight, const float* bias, float* to) {
  for (idx o = 0; o < whole(out); ++o) to[o] = bias && o < out ? bias[o] : 0.0f;
  to += whole(out);
  if (by_rows(out)) {
    for (idx o = 0; o < out; ++o)
      for (idx k = 0; k < whole(in); ++k) *to++ = k < in ? weight[o * in + k] : 0.0f;
    return;
  }
  for (idx first = 0; first < out; first += width)
    for (idx k = 0; k < in; ++k)
      for (idx o = first; o < least(first + width, whole(out)); ++o) *to++ = o < out ? weight[o * in + k] : 0.0f;
}

UNDERTOW_INLINE V product_of(idx in, const float* weights, const float* x) {
  V sum = {};
  for (idx k = 0; k < in; k += W) sum += load(x + k) * load(weights + k);
  return sum;
}

// y [O padded] of one row; x is padded.
inline void dense_row(idx in, idx out, const float* packed, const float* x, float* y) {
  const float* bias = packed;
  packed += whole(out);
  if (by_rows(out)) {
    for (idx o = 0; o < out; ++o, packed += whole(in)) y[o] = across(product_of(in, packed, x)) + bias[o];
    return;  // what follows y[O] is never written: zero
  }
  for (idx begin = 0; begin < out; begin += width) {
    const int vectors = static_cast<int>(least(4, ceil_div(out - begin, W)));
    with_extent<4>(vectors, [&](auto N) __attribute__((always_inline)) {
      V sums[N.value];
      for (int v = 0; v < N.value; ++v) sums[v] = load(bias + begin + v * W);
      for (idx k = 0; k < in; ++k, packed += N.value * W)
        for (int v = 0; v < N.value; ++v) sums[v] += x[k] * load(packed + v * W);
      for (int v = 0; v < N.value; ++v)
        store(y + begin + v * W, first<float>(sums[v], out - begin - v * W));
    });
  }
}

// y [O padded], of which the lanes past O become zero.
inline void activate(Activation activation, idx out, float* y) {
  if (activation == Activation::softmax) {
    float top = y[0], sum = 0;
    for (idx o = 0; o < out; ++o) top = y[o] > top || y[o] != y[o] ? y[o] : top;
    for (idx o = 0; o < out; ++o) sum += y[o] = std::exp(y[o] - top);
    for (idx o = 0; o < out; ++o) y[o] /= sum;
    return;
  }
  for (idx o = 0; o < out; o += W) {
    const V v = load(y + o);
    V made = activation == Activation::tanh ? clamp<float>(quick_tanh(v), 1.0f) : larger<float>(V{}, v);
    if (activation == Activation::sigmoid)  // its rounding may not leave 0 to 1
      made = larger<float>(V{}, smaller<float>(all_of(1.0f), sigmoid_of_half(0.5f * v)));
    store(y + o, first<float>(made, out - o));
  }
}

// ---- recurrent layers with additions: sums of all panels first ----

struct Added {  // the packed arrays, each [4][H padded] or [H padded], zero past H
  const float *gain_x, *gain_h, *gain_c, *bias_c, *peepholes, *projection;
};

inline idx packed_added(const Stage& s) {
  const idx H = padded_hidden(s);
  return (s.gain_x ? 10 * H : 0) + (s.peepholes ? 3 * H : 0) + (s.projection ? packed_dense(s.hidden, s.out) : 0);
}

inline void copy_padded(float*& to, const float* from, idx rows, idx n, float factor = 1.0f) {
  for (idx r = 0; r < rows; ++r)
    for (idx k = 0; k < whole(n); ++k) *to++ = k < n ? factor * from[r * n + k] : 0.0f;
}

inline void pack_added(const Stage& s, float* to) {
  if (s.gain_x) {
    for (const float* gain : {s.gain_x, s.gain_h})
      for (idx v = 0; v < 4; ++v) copy_padded(to, gain + v * s.hidden, 1, s.hidden, part_of_sum(s, v));
    copy_padded(to, s.gain_c, 1, s.hidden);
    copy_padded(to, s.bias_c, 1, s.hidden);
  }
  if (s.peepholes) copy_padded(to, s.peepholes, 3, s.hidden, 0.5f);
  if (s.projection) pack_dense(s.hidden, s.out, s.projection, nullptr, to);
}

inline Added added_of(const Stage& s, const float* packed) {
  const idx H = padded_hidden(s);
  Added a{};
  if (s.gain_x) a.gain_x = packed, a.gain_h = packed + 4 * H, a.gain_c = packed + 8 * H, a.bias_c = packed + 9 * H;
  if (s.gain_x) packed += 10 * H;
  if (s.peepholes) a.peepholes = packed, packed += 3 * H;
  a.projection = packed;
  return a;
}

// sums [4][H padded] = W a, by panels.
inline void product(const Stage& s, const Recurrent& packed, const float* a, idx from, idx factors, float* sums) {
  const idx count = packed.count, H = padded_hidden(s);
  for (idx p = 0; p < count; ++p) {
    const idx group = p / packed.group * packed.group, stride = least(packed.group, count - group) * width;
    const float* w = packed.weights + group * width * packed.depth + (p - group) * width + from * stride;
    V total[4] = {};
    for (idx k = 0; k < factors; ++k, w += stride)
      for (int v = 0; v < 4; ++v) total[v] += a[k] * load(w + v * W);
    for (int v = 0; v < 4; ++v) store(sums + v * H + p * W, total[v]);
  }
}

// LN over `rows` rows [.][H padded], in place, then times the gain.
inline void normalise(idx rows, idx hidden, float* v, const float* gain) {
  const idx H = whole(hidden);
  const auto each = [&](auto&& see) {
    for (idx r = 0; r < rows; ++r)
      for (idx k = 0; k < hidden; k += W) see(load(v + r * H + k), hidden - k);
  };
  const Moments<float> m = moments<float>(rows * hidden, each);
  for (idx k = 0; k < rows * H; k += W) store(v + k, (load(v + k) - m.mean) * m.scale * load(gain + k));
}

// scratch: sums of x and of h [2][4][H padded], then c~ as the output sees it, o and h~ [3][H padded]
inline void varied_row(const Stage& s, const Recurrent& packed, const Added& a, const float* x, const float* h, float* c,
                       float* y, float* scratch) {
  const idx H = padded_hidden(s);
  float *of_x = scratch, *of_h = of_x + 4 * H, *seen = of_h + 4 * H, *o = seen + H, *made = o + H;
  product(s, packed, x, 0, s.in, of_x);
  product(s, packed, h, s.in, s.out, of_h);
  if (a.gain_x) {
    normalise(4, s.hidden, of_x, a.gain_x);
    normalise(4, s.hidden, of_h, a.gain_h);
  }
  for (idx k = 0; k < H; k += W) {
    V sums[4];
    for (int v = 0; v < 4; ++v)
      sums[v] = load(packed.bias + (k / W * 4 + v) * W) + (load(of_x + v * H + k) + load(of_h + v * H + k));
    const V before = load(c + k);
    if (a.peepholes)  // half of them, as of the sums of i, f and o
      for (int v = 0; v < 2; ++v) sums[v] += load(a.peepholes + v * H + k) * before;
    const V i = sigmoid_of_half(sums[0]), f = s.coupled ? 1.0f - i : sigmoid_of_half(sums[1]);
    const V now = i * quick_tanh(sums[2]) + f * before;
    if (a.peepholes) sums[3] += load(a.peepholes + 2 * H + k) * now;
    store(o + k, sigmoid_of_half(sums[3]));
    store(seen + k, now);
    store(c + k, first<float>(s.zoneout_c * before + (1.0f - s.zoneout_c) * now, s.hidden - k));
  }
  if (a.gain_c) {
    normalise(1, s.hidden, seen, a.gain_c);
    for (idx k = 0; k < H; k += W) store(seen + k, load(seen + k) + load(a.bias_c + k));
  }
  for (idx k = 0; k < H; k += W)
    store(made + k, first<float>(load(o + k) * quick_tanh(load(seen + k)), s.hidden - k));
  if (s.projection) dense_row(s.hidden, s.out, a.projection, made, y);
  const float* from = s.projection ? y : made;
  for (idx k = 0; k < padded_out(s); k += W)
    store(y + k, s.zoneout_h * load(h + k) + (1.0f - s.zoneout_h) * load(from + k));
}

// ---- the stages ----

inline idx packed_recurrent(const Stage& s) {
  if (s.narrow) return NarrowLstm(s).slabs.floats();
  if (plain(s)) return Lstm(s).slabs.floats();
  return panel_count(s) * width * (1 + depth(s));
}

inline void pack_recurrent(const Stage& s, float* to) {
  const Panels<float> panels{of_lstm(s) ? Cell::lstm : Cell::rnn, s.hidden};
  const idx count = panel_count(s);
  const auto each = [&](idx p, auto&& value) {
    for (idx v = 0; v < 4; ++v)
      for (idx lane = 0; lane < W; ++lane) *to++ = lane < panels.valid(p, v) ? value(v, panels.row(p, v) + lane) : 0.0f;
  };
  for (idx p = 0; p < count; ++p) each(p, [&](idx v, idx row) { return part_of_sum(s, v) * s.bias[row]; });
  const idx most = group_size(s);
  for (idx group = 0; group < count; group += most)
    for (idx k = 0; k < depth(s); ++k)
      for (idx p = group; p < least(group + most, count); ++p)
        each(p, [&](idx v, idx row) {
          const idx of_h = k - s.in;
          const float w = of_h < 0 ? s.first[row * s.in + k] : of_h < s.out ? s.second[row * s.out + of_h] : 0.0f;
          return s.gain_x ? w : part_of_sum(s, v) * w;
        });
}

// The state's h is that of the block's last step.
inline void keep_h(const Stage& s, const Block& b) {
  const float* last = b.y + (b.steps - 1) * b.rows * b.y_row;
  for (idx n = 0; b.steps && n < b.rows; ++n)
    for (idx k = 0; k < padded_out(s); k += W) store(b.state + n * b.state_row + k, load(last + n * b.y_row + k));
}

inline void run_rnn(const Stage& s, const float* arrays, const Block& b) {
  const Recurrent packed(s, arrays);
  for (idx t = 0; t < b.steps; ++t) {
    idx n = 0;
    for (; n + tile_rows <= b.rows; n += tile_rows) rnn_rows<tile_rows>(s, packed, Rows<tile_rows>(b, packed.row, t, n));
    for (; n < b.rows; ++n) rnn_rows<1>(s, packed, Rows<1>(b, packed.row, t, n));
    for (n = 0; s.zoneout_h != 0 && n < b.rows; ++n) {
      const Rows<1> row(b, packed.row, t, n);
      for (idx k = 0; k < padded_out(s); k += W)
        store(row.y[0] + k, s.zoneout_h * load(row.h[0] + k) + (1.0f - s.zoneout_h) * load(row.y[0] + k));
    }
  }
}

inline void run_varied(const Stage& s, const float* arrays, const Block& b) {
  const Recurrent packed(s, arrays);
  const Added added = added_of(s, arrays + packed_recurrent(s));
  for (idx t = 0; t < b.steps; ++t)
    for (idx n = 0; n < b.rows; ++n) {
      const Rows<1> row(b, packed.row, t, n);
      varied_row(s, packed, added, row.x[0], row.h[0], row.c[0], row.y[0], b.scratch);
    }
}

// Of a pool the state begins with the count of steps; then come means and largest values, or of attention the largest
// score, the sum of weights (one vector) and the weighted means.
inline idx pool_state(const Stage& s) {
  const idx D = whole(s.in);
  return W + (s.pooling == Pooling::mean_max ? 2 * D : D);
}

inline void pool_row(const Stage& s, const float* query, const float* x, float* y, float* state) {
  const idx D = whole(s.in);
  float* sums = state + W;
  if (s.pooling == Pooling::attention) {
    V dot = {};
    for (idx k = 0; k < D; k += W) dot += load(x + k) * load(query + k);
    const float score = sum_of<float>(dot), top = state[0] > score ? state[0] : score;
    const float old = std::exp(state[0] - top), now = std::exp(score - top);
    state[0] = top, state[1] = state[1] * old + now;
    for (idx k = 0; k < D; k += W) {
      const V mean = load(sums + k);
      store(sums + k, first<float>(mean + (load(x + k) - mean) * (now / state[1]), s.in - k));
      store(y + k, load(sums + k));
    }
    return;
  }
  std::uint32_t count;
  std::memcpy(&count, state, sizeof count);
  ++count;
  std::memcpy(state, &count, sizeof count);
  float* largest = s.pooling == Pooling::mean_max ? sums + D : sums;
  if (s.pooling != Pooling::max)
    for (idx k = 0; k < D; k += W) {  // a sum would stop to grow: 2^24 steps are six minutes of sound
      const V mean = load(sums + k);
      store(sums + k, mean + (load(x + k) - mean) / float(count));
      store(y + k, load(sums + k));
    }
  if (s.pooling != Pooling::mean)
    for (idx k = 0; k < s.in; ++k) {
      largest[k] = x[k] > largest[k] || x[k] != x[k] ? x[k] : largest[k];
      y[k + (s.pooling == Pooling::mean_max ? s.in : 0)] = largest[k];
    }
}

inline idx packed_floats(const Stage& s) {
  switch (s.kind) {
    case Kind::embedding: return s.symbols * whole(s.out);
    case Kind::normalise:
    case Kind::scale: return 2 * whole(s.in);
    case Kind::lstm:
    case Kind::rnn: return packed_recurrent(s) + packed_added(s);
    case Kind::dense: return packed_dense(s.in, s.out);
    case Kind::pool: return whole(s.in);
  }
  return 0;
}

inline idx state_floats(const Stage& s) {
  if (s.kind == Kind::lstm || s.kind == Kind::rnn) return padded_out(s) + padded_hidden(s);
  return s.kind == Kind::pool ? pool_state(s) : 0;
}

inline idx scratch_floats(const Stage& s) {
  if (s.kind != Kind::lstm) return 0;
  return s.varied() ? 11 * padded_hidden(s) : s.narrow ? NarrowLstm(s).room() : 0;
}

inline void pack(const Stage& s, float* to) {
  switch (s.kind) {
    case Kind::embedding: return copy_padded(to, s.first, s.symbols, s.out);
    case Kind::normalise:
    case Kind::scale:
      copy_padded(to, s.first, 1, s.in);
      return copy_padded(to, s.second, 1, s.in);
    case Kind::lstm:
    case Kind::rnn:
      if (plain(s)) return pack_lstm(s, to);
      if (s.narrow) return pack_narrow(s, to);
      pack_recurrent(s, to);
      return pack_added(s, to + packed_recurrent(s));
    case Kind::dense: return pack_dense(s.in, s.out, s.first, s.bias, to);
    case Kind::pool:
      if (!s.first) return copy(to, static_cast<const float*>(nullptr), whole(s.in));
      copy_padded(to, s.first, 1, s.in);
      for (idx k = 0; k < s.in; ++k) to[k - whole(s.in)] /= std::sqrt(float(s.in));
  }
}

inline void reset(const Stage& s, float* state) {
  copy(state, static_cast<const float*>(nullptr), state_floats(s));
  if (s.kind == Kind::lstm || s.kind == Kind::rnn) {
    copy(state, s.h_0, s.out);
    if (s.c_0) copy(state + padded_out(s), s.c_0, s.hidden);
  }
  if (s.kind != Kind::pool || s.pooling == Pooling::mean) return;
  const float least_of_all = -__builtin_inff();
  if (s.pooling == Pooling::attention) {
    state[0] = least_of_all;
    return;
  }
  float* largest = state + W + (s.pooling == Pooling::mean_max ? whole(s.in) : 0);
  for (idx k = 0; k < s.in; ++k) largest[k] = least_of_all;
}

inline void run_row(const Stage& s, const float* packed, const float* x, float* y, float* state) {
  switch (s.kind) {
    case Kind::embedding: {
      const float* row = packed + idx(x[0]) * whole(s.out);  // the caller has checked it
      for (idx k = 0; k < whole(s.out); k += W) store(y + k, load(row + k));
      return;
    }
    case Kind::normalise:
      for (idx k = 0; k < s.in; ++k) y[k] = std::asinh((x[k] - packed[k]) / packed[whole(s.in) + k]);
      return;
    case Kind::scale:
      for (idx k = 0; k < s.in; ++k) y[k] = packed[whole(s.in) + k] + packed[k] * x[k];
      return;
    case Kind::dense:
      dense_row(s.in, s.out, packed, x, y);
      if (s.activation != Activation::none) activate(s.activation, s.out, y);
      return;
    case Kind::pool: return pool_row(s, packed, x, y, state);
    default: return;
  }
}

inline void run(const Stage& s, const float* packed, const Block& b) {
  if (s.kind == Kind::lstm || s.kind == Kind::rnn) {
#if defined(__AVX512BW__)
    if (s.narrow && has_vnni()) run_narrow<true>(s, packed, b);
    else
#endif
    if (s.narrow) run_narrow<false>(s, packed, b);
    else if (plain(s)) run_lstm(s, packed, b);
    else if (s.kind == Kind::lstm) run_varied(s, packed, b);
    else run_rnn(s, packed, b);
    return keep_h(s, b);
  }
  if (s.kind == Kind::dense && s.out == 1 && s.activation == Activation::none) {  // most often after small layers
    for (idx n = 0; n < b.steps * b.rows; ++n)
      b.y[n * b.y_row] = across(product_of(s.in, packed + W, b.x + n * b.x_row)) + packed[0];
    return;
  }
  for (idx t = 0; t < b.steps; ++t)
    for (idx n = 0; n < b.rows; ++n)
      run_row(s, packed, b.x + (t * b.rows + n) * b.x_row, b.y + (t * b.rows + n) * b.y_row, b.state + n * b.state_row);
}

}  // namespace
}  // namespace undertow
