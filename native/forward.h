// Forward: c_t = f*c_{t-1} + i*g, h_t = o*tanh(c_t); plain RNN: h_t = tanh(.).
//
// Each thread takes its share (split.h) through all time steps. A tile is
// computed in registers (x and h as one sum) and goes through its activations before it is written. The running
// h and c are kept apart from y and the tape, in whole vectors, where no other core's prefetching disturbs them.
#pragma once
#include "scratch.h"
#include "split.h"
#include "vecmath.h"

namespace undertow {
namespace {

template <class T>
class ForwardPass {
 public:
  explicit ForwardPass(const Forward<T>& f)
      : f(f), panels{f.cell, f.hidden}, depth(f.input + f.hidden), weights(panels.count() * depth * width),
        bias(panels.count() * width), padded(odd_pages(panels.count() * (f.cell == Cell::lstm ? W : width))),
        state(3 * f.batch * padded + f.threads * apart<T>) {}

  void work(const Team& team) {
    const Share mine = share(panels.count(), team);
    for (idx p = mine.begin; p < mine.end; ++p) pack(p);
    team.barrier();
    const Share rows = share_sequences(f, team);
    const bool by_units = split_units(f, team);
    const Share all{0, f.batch}, own = by_units ? all : rows;
    const Share units = by_units ? mine : Share{0, panels.count()};
    Running run{own.begin, (own.end - own.begin) * padded,
                state.get() + 3 * own.begin * padded + (by_units ? 0 : team.id * apart<T>)};
    begin(run, rows);
    for (idx s = 0; s < f.steps; ++s, run.now ^= 1) {
      if (by_units) team.barrier();
      step(run, s, {own.begin, least(own.end, f.active(s))}, units);
      for (idx n = most(rows.begin, f.active(s)); n < rows.end; ++n) idle(run, s, n);
    }
    if (by_units) team.barrier();
    finish(run, rows);
  }

 private:
  static constexpr idx W = lanes<T>, width = Panels<T>::width;
  const Forward<T>& f;
  const Panels<T> panels;
  const idx depth;
  Scratch<T> weights;  // [p][C+H][4][W]
  Scratch<T> bias;     // [p][4][W]
  const idx padded;    // H in whole vectors
  Scratch<T> state;    // of each thread: h before and after the step and c, [3][its sequences][padded]

  // Rows a whole number of pages long would all fall into the same few lines of the first cache.
  static idx odd_pages(idx row) { return row * idx{sizeof(T)} % 4096 ? row : row + W; }

  struct Running {
    idx first, size;
    T* data;
    int now = 0;  // which of the two h is h_{t-1}
  };

  T* panel(idx p) const { return weights.get() + p * depth * width; }
  T* h_before(const Running& run, idx n) const { return run.data + run.now * run.size + (n - run.first) * padded; }
  T* h_after(const Running& run, idx n) const { return run.data + (run.now ^ 1) * run.size + (n - run.first) * padded; }
  T* c_of(const Running& run, idx n) const { return run.data + 2 * run.size + (n - run.first) * padded; }
  std::size_t bytes() const { return sizeof(T) * static_cast<std::size_t>(f.hidden); }

  void pack(idx p) {
    pack_transposed(panels, p, f.weight_ih, f.input, panel(p));
    pack_transposed(panels, p, f.weight_hh, f.hidden, panel(p) + f.input * width);
    for (idx v = 0; v < 4; ++v) {
      const idx row = panels.row(p, v), valid = panels.valid(p, v);
      Vec<T> sum = {};
      if (f.bias_ih && valid) sum += load(f.bias_ih + row, valid);
      if (f.bias_hh && valid) sum += load(f.bias_hh + row, valid);
      store(bias.get() + p * width + v * W, sum);
    }
  }

  void begin(const Running& run, Share rows) const {
    for (idx n = rows.begin; n < rows.end; ++n) {
      std::memcpy(h_before(run, n), f.h_0 + n * f.hidden, bytes());
      std::memset(c_of(run, n), 0, sizeof(T) * static_cast<std::size_t>(padded));  // lanes past H stay zero
      if (f.c_0) std::memcpy(c_of(run, n), f.c_0 + n * f.hidden, bytes());
      if (f.c) std::memcpy(f.c + n * f.hidden, f.c_0 + n * f.hidden, bytes());
    }
  }

  void step(const Running& run, idx s, Share rows, Share units) const {
    for (idx p = units.begin; p < units.end;) p += panel_step(run, s, p, units.end, rows);
  }

  // All rows through one panel, or several where few rows leave registers free. Returns the panels done.
  idx panel_step(const Running& run, idx s, idx p, idx end, Share rows) const {
    const int left = static_cast<int>(least(tile_rows, rows.end - rows.begin));
    const bool wide = left >= 1 && left == rows.end - rows.begin && panels.cell == Cell::lstm &&
                      p + panels_at_once(left) <= end;
    // The panel that comes after: its four quarters are called for by the first four tiles of this one.
    const T* next = panel(p + 1 < end ? p + 1 : p);
    each_tile(rows, [&](auto r, idx n, idx number) {
      constexpr int R = decltype(r)::value;
      const T* quarter = next + least(3, number) * depth * W;
      if (wide) return tile<R, panels_at_once(R), 4>(run, s, p, n, quarter);
      with_extent<4>(panels.vectors(p), [&](auto v) { tile<R, 1, decltype(v)::value>(run, s, p, n, quarter); });
    });
    return wide ? panels_at_once(left) : 1;
  }

  template <int R, int P, int V>
  void tile(const Running& run, idx s, idx p, idx n, const T* next) const {
    const idx t = f.time(s);
    Tile<T, R, P, V> tile;
    for (int q = 0; q < P; ++q)
      for (int v = 0; v < V; ++v) {
        const Vec<T> b = load(bias.get() + (p + q) * width + v * W);
        for (int r = 0; r < R; ++r) tile.acc[r][q][v] = b;
      }
    const T* rows[R];
    for (int r = 0; r < R; ++r) rows[r] = f.x.at(t, n + r);
    tile.multiply(rows, 1, panel(p), depth * width, width, f.input, next);
    for (int r = 0; r < R; ++r) rows[r] = h_before(run, n + r);
    tile.multiply(rows, 1, panel(p) + f.input * width, depth * width, width, f.hidden,
                  next + f.input * W);
    for (int q = 0; q < P; ++q)
      for (int r = 0; r < R; ++r)
        if constexpr (V == 4) {
          if (f.cell == Cell::lstm) lstm_units(run, s, t, n + r, p + q, tile.acc[r][q]);
          else rnn_units<V>(run, t, n + r, p + q, tile.acc[r][q]);
        } else {
          rnn_units<V>(run, t, n + r, p + q, tile.acc[r][q]);
        }
  }

  UNDERTOW_INLINE void lstm_units(const Running& run, idx s, idx t, idx n, idx p, const Vec<T> (&pre)[4]) const {
    const idx u = p * W, valid = panels.valid(p, 0);
    const Vec<T> i = sigmoid<T>(pre[0]), fg = sigmoid<T>(pre[1]), g = tanh<T>(pre[2]), o = sigmoid<T>(pre[3]);
    const Vec<T> c = fg * load(c_of(run, n) + u) + i * g, h = o * tanh<T>(c);
    store(c_of(run, n) + u, c);
    store(h_after(run, n) + u, h);
    store(f.y.at(t, n) + u, h, valid);
    if (!f.gates) return;
    store(f.c + ((s + 1) * f.batch + n) * f.hidden + u, c, valid);
    T* gates = f.gates + (s * f.batch + n) * 4 * f.hidden + u;
    store(gates, i, valid);
    store(gates + f.hidden, fg, valid);
    store(gates + 2 * f.hidden, g, valid);
    store(gates + 3 * f.hidden, o, valid);
  }

  template <int V>
  UNDERTOW_INLINE void rnn_units(const Running& run, idx t, idx n, idx p, const Vec<T> (&pre)[V]) const {
    for (int v = 0; v < V; ++v) {
      const Vec<T> h = tanh<T>(pre[v]);
      store(h_after(run, n) + panels.unit(p, v), h);
      store(f.y.at(t, n) + panels.unit(p, v), h, panels.valid(p, v));
    }
  }

  // A sequence that is not active at this step: output zero, state carried over.
  void idle(const Running& run, idx s, idx n) const {
    std::memcpy(h_after(run, n), h_before(run, n), bytes());
    std::memset(f.y.at(f.time(s), n), 0, bytes());
    if (!f.gates) return;
    std::memcpy(f.c + ((s + 1) * f.batch + n) * f.hidden, c_of(run, n), bytes());
    std::memset(f.gates + (s * f.batch + n) * 4 * f.hidden, 0, 4 * bytes());
  }

  void finish(const Running& run, Share rows) const {
    for (idx n = rows.begin; n < rows.end; ++n) {
      std::memcpy(f.h_n + n * f.hidden, h_before(run, n), bytes());
      if (f.c_n) std::memcpy(f.c_n + n * f.hidden, c_of(run, n), bytes());
    }
  }
};

template <class T>
void forward(const Forward<T>& f) {
  ForwardPass<T> pass(f);
  const int threads = useful_threads(f);
  parallel(threads, [](void* p, const Team& team) { static_cast<ForwardPass<T>*>(p)->work(team); }, &pass);
}

}  // namespace
}  // namespace undertow
