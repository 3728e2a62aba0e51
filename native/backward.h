// Back-propagation through time, by hand. At step t, with dh and dc arriving from t+1 and dy from above:
//
//   dh += dy;  dc += dh*o*(1 - tanh(c)^2)
//   di = dc*g*i*(1-i)   df = dc*c_{t-1}*f*(1-f)   dg = dc*i*(1-g^2)   do = dh*tanh(c)*o*(1-o)
//   dh_{t-1} = [di df dg do] U      dc_{t-1} = dc*f      dx_t = [di df dg do] W
//   dW += [di df dg do]^T x_t       dU += [di df dg do]^T h_{t-1}      db += [di df dg do]
//
// A block of steps is taken back by each thread for its own share (split.h); then, while the block's dgates are in
// cache, all threads share out its rows of dx and its contribution to each weight's sum. Every sum is taken by
// one thread in the order of the blocks, so its bits do not depend on how many threads there are.
#pragma once
#include "scratch.h"
#include "split.h"
#include "vecmath.h"

namespace undertow {
namespace {

// Rows (t,n) taken together: enough to pay for reading and writing the sums once a block.
template <class T>
idx block_rows(const Problem<T>& b) {
  return most(256, least(1024, (b.input + b.hidden) / 4));
}

template <class T>
class BackwardPass {
 public:
  explicit BackwardPass(const Backward<T>& b)
      : b(b), panels{b.cell, b.hidden}, P(panels.count()), wants_weights(b.dweight_ih || b.dweight_hh || b.dbias),
        capacity(most(b.batch, least(block_rows(b), b.steps * b.batch))), fan_in(b.input + b.hidden + 1),
        groups(wants_weights ? ceil_div(fan_in, tile_rows) : 0), h_groups(ceil_div(b.hidden, width)),
        x_groups(b.dx.data ? ceil_div(b.input, width) : 0), dgates(P * capacity * width),
        inputs(groups * capacity * tile_rows), sums(P * groups * tile_rows * width),
        dh(b.batch * h_groups * width + b.threads * apart<T>), dc(b.batch * P * width + b.threads * apart<T>), weight_hh(h_groups * P * width * width),
        weight_ih(x_groups * P * width * width), dh_rows(b.batch), dc_rows(b.batch), dx_rows(capacity) {}

  void work(const Team& team) {
    prepare(team);
    const Share mine = share_sequences(b, team);
    const bool by_units = split_units(b, team);
    const Share own = by_units ? Share{0, b.batch} : mine, columns = by_units ? share(h_groups, team) : Share{0, h_groups};
    begin(mine, team.id * apart<T>);
    team.barrier();
    bool first = true;
    for (idx end = b.steps; end > 0; first = false) {
      const idx start = block_start(end);
      idx row = rows_between(start, end);
      const idx rows = row;
      for (idx s = end; s-- > start;) {
        row -= b.active(s);
        keep(s, row, mine);
        const Share active{own.begin, most(own.begin, least(own.end, b.active(s)))};
        gate_gradients(s, row, active, columns);
        if (s == 0 && !b.dh_0) continue;
        if (by_units) team.barrier();
        times_weights(weight_hh.get(), b.hidden, columns, {row + active.begin, row + active.end},
                      dh_rows.get() + active.begin);
      }
      team.barrier();
      const Share some = share(rows, team);
      if (x_groups) times_weights(weight_ih.get(), b.input, {0, x_groups}, some, dx_rows.get() + some.begin);
      if (wants_weights) add_to_sums(share(P * groups, team), rows, first);
      team.barrier();
      end = start;
    }
    finish(mine, share(P, team), first);
  }

 private:
  static constexpr idx W = lanes<T>, width = Panels<T>::width;
  static constexpr idx panels_in_cache = (idx{1} << 18) / (width * width * sizeof(T));  // 256 KiB of weights
  const Backward<T>& b;
  const Panels<T> panels;
  const idx P;                // panels of hidden units
  const bool wants_weights;
  const idx capacity;         // rows (t,n) of a block
  const idx fan_in;           // C + H + 1: what feeds a gate; the 1 is the bias
  const idx groups;           // of tile_rows of them
  const idx h_groups, x_groups;  // of 4W columns of weight_hh and weight_ih
  Scratch<T> dgates;          // [p][row][4][W]
  Scratch<T> inputs;          // [group][row][tile_rows]: x_t, h_{t-1}, 1
  Scratch<T> sums;            // [p][group][tile_rows][4][W]: transposed dW, dU, db
  Scratch<T> dh, dc;          // [N][h_groups*4W], [N][P*4W]: carried back, each thread's apart
  Scratch<T> weight_hh, weight_ih;  // [q][p][4][W][4W]
  Scratch<T*> dh_rows, dc_rows;  // where each sequence's are
  Scratch<T*> dx_rows;        // where the dx of each row of the block goes

  T* dgates_at(idx p, idx row) const { return dgates.get() + (p * capacity + row) * width; }
  T* dc_at(idx n) const { return dc_rows.get()[n]; }

  idx rows_between(idx start, idx end) const {
    if (!b.batch_sizes) return (end - start) * b.batch;
    idx rows = 0;
    for (idx s = start; s < end; ++s) rows += b.active(s);
    return rows;
  }

  idx block_start(idx end) const {  // as many steps as fit, at least one
    idx start = end - 1, rows = b.active(start);
    while (start > 0 && rows + b.active(start - 1) <= capacity) rows += b.active(--start);
    return start;
  }

  void prepare(const Team& team) {
    const Share h = share(h_groups, team), x = share(x_groups, team);
    for (idx q = h.begin; q < h.end; ++q)
      pack_columns(panels, q, b.weight_hh, b.hidden, weight_hh.get() + q * P * width * width);
    for (idx q = x.begin; q < x.end; ++q)
      pack_columns(panels, q, b.weight_ih, b.input, weight_ih.get() + q * P * width * width);
  }

  void begin(Share rows, idx offset) const {
    for (idx n = rows.begin; n < rows.end; ++n) {
      dh_rows.get()[n] = dh.get() + n * h_groups * width + offset;
      dc_rows.get()[n] = dc.get() + n * P * width + offset;
      fill(dh_rows.get()[n], b.dh_n ? b.dh_n + n * b.hidden : nullptr, h_groups * width);
      fill(dc_at(n), b.dc_n ? b.dc_n + n * b.hidden : nullptr, P * width);
    }
  }

  void fill(T* to, const T* from, idx count) const {  // [H] or zero, padded with zeros
    std::memset(to, 0, sizeof(T) * static_cast<std::size_t>(count));
    if (from) std::memcpy(to, from, sizeof(T) * static_cast<std::size_t>(b.hidden));
  }

  // Of one step, for these sequences: what dx and the weights' gradients will need at the end of the block.
  // `row` is where the step's rows start in it.
  void keep(idx s, idx row, Share mine) const {
    const idx t = b.time(s), end = least(mine.end, b.active(s));
    for (idx n = mine.begin; n < end; ++n) {
      if (wants_weights) keep_inputs(t, n, previous_h(s, n), row + n);
      if (x_groups) dx_rows.get()[row + n] = b.dx.at(t, n);
    }
    if (b.dx.data)
      for (idx n = most(mine.begin, end); n < mine.end; ++n)
        std::memset(b.dx.at(t, n), 0, sizeof(T) * static_cast<std::size_t>(b.input));
  }

  void gate_gradients(idx s, idx row, Share rows, Share columns) const {
    const idx t = b.time(s), panels_in_group = b.cell == Cell::lstm ? 4 : 1;
    const Share units{columns.begin * panels_in_group, least(P, columns.end * panels_in_group)};
    for (idx n = rows.begin; n < rows.end; ++n)
      for (idx p = units.begin; p < units.end; ++p)
        if (b.cell == Cell::lstm) lstm_units(s, t, n, p, dgates_at(p, row + n));
        else rnn_units(t, n, p, dgates_at(p, row + n));
  }

  const T* previous_h(idx s, idx n) const {
    if (s == 0 || n >= b.active(s - 1)) return b.h_0 + n * b.hidden;
    return b.y.at(b.time(s - 1), n);
  }

  UNDERTOW_INLINE Vec<T> arriving(idx t, idx n, idx u, idx valid) const {
    Vec<T> d = load(dh_rows.get()[n] + u, valid);
    if (b.dy.data) d += load(b.dy.at(t, n) + u, valid);
    return d;
  }

  UNDERTOW_INLINE void lstm_units(idx s, idx t, idx n, idx p, T* out) const {
    const idx u = p * W, valid = panels.valid(p, 0), state = (s * b.batch + n) * b.hidden + u;
    const T* gates = b.gates + (s * b.batch + n) * 4 * b.hidden + u;
    const Vec<T> i = load(gates, valid), f = load(gates + b.hidden, valid);
    const Vec<T> g = load(gates + 2 * b.hidden, valid), o = load(gates + 3 * b.hidden, valid);
    const Vec<T> c_before = load(b.c + state, valid), tc = tanh<T>(load(b.c + state + b.batch * b.hidden, valid));
    const Vec<T> dht = arriving(t, n, u, valid);
    const Vec<T> dct = load(dc_at(n) + u) + dht * o * (T(1) - tc * tc);
    store(out, dct * g * i * (T(1) - i));
    store(out + W, dct * c_before * f * (T(1) - f));
    store(out + 2 * W, dct * i * (T(1) - g * g));
    store(out + 3 * W, dht * tc * o * (T(1) - o));
    store(dc_at(n) + u, dct * f);
  }

  UNDERTOW_INLINE void rnn_units(idx t, idx n, idx p, T* out) const {
    for (idx v = 0; v < 4; ++v) {
      const idx u = panels.unit(p, v), valid = panels.valid(p, v);
      Vec<T> d = {};
      if (valid) {
        const Vec<T> h = load(b.y.at(t, n) + u, valid);
        d = arriving(t, n, u, valid) * (T(1) - h * h);
      }
      store(out + v * W, d);
    }
  }

  void keep_inputs(idx t, idx n, const T* h, idx row) const {
    const T* x = b.x.at(t, n);
    const T one = T(1);
    const struct { const T* from; idx count; } parts[] = {{x, b.input}, {h, b.hidden}, {&one, 1}};
    T* to = inputs.get() + row * tile_rows;
    idx place = 0;
    for (const auto& part : parts)
      for (idx k = 0; k < part.count; ++k) {
        to[place] = part.from[k];
        if (++place == tile_rows) place = 0, to += capacity * tile_rows;
      }
    for (; place && place < tile_rows; ++place) to[place] = T(0);
  }

  // out[i][0..columns) = dgates of row begin + i [4H] times the packed weights, up to row end. A piece of
  // the weights that stays in cache goes past all rows before the next one; sums under way wait in `out`.
  void times_weights(const T* weights, idx columns, Share column_groups, Share rows, T* const* out) const {
    const int few = static_cast<int>(least(tile_rows, rows.end - rows.begin));
    for (idx q = column_groups.begin; q < column_groups.end;) {
      const bool wide = few && few == rows.end - rows.begin && q + panels_at_once(few) <= column_groups.end &&
                        (q + panels_at_once(few)) * width <= columns;
      for (idx from = 0; from < P; from += panels_in_cache) {
        const Share piece{from, least(P, from + panels_in_cache)};
        each_tile(rows, [&](auto r, idx row, idx number) {
          constexpr int R = decltype(r)::value;
          const Place place{q, row, piece, out + (row - rows.begin), least(3, number)};
          if (wide) return times_piece<R, panels_at_once(R), 4>(weights, columns, place);
          with_extent<4>(column_vectors<T>(q, columns), [&](auto v) {
            times_piece<R, 1, decltype(v)::value>(weights, columns, place);
          });
        });
      }
      q += wide ? panels_at_once(few) : 1;
    }
  }

  struct Place {
    idx q, row;     // the first column group and row of the tile
    Share piece;    // panels to sum over
    T* const* out;  // where its rows go
    idx quarter;    // of the next piece, that this tile calls into the cache
  };

  // The part of that sum over the panels in a piece, for R rows and Q groups of V vectors of columns.
  template <int R, int Q, int V>
  void times_piece(const T* weights, idx columns, const Place& place) const {
    const idx q = place.q, row = place.row;
    const Share piece = place.piece;
    const T* next = weights + (q * P + piece.end) * width * width + place.quarter * (piece.end - piece.begin) * width * W;
    Tile<T, R, Q, V> tile;
    const auto each_vector = [&](auto&& f) {
      for (int r = 0; r < R; ++r)
        for (int g = 0; g < Q; ++g)
          for (int v = 0; v < V; ++v) {
            const idx column = (place.q + g) * width + v * W;
            f(tile.acc[r][g][v], place.out[r] + column, columns - column);
          }
    };
    if (place.piece.begin == 0) tile.clear();
    else each_vector([](Vec<T>& sum, const T* at, idx valid) { sum = load(at, valid); });
    for (idx p = piece.begin; p < piece.end; ++p) {
      const T* rows[R];
      for (int r = 0; r < R; ++r) {
        rows[r] = dgates_at(p, row + r);
        const T* ahead = dgates_at(least(p + 1, P - 1), row + r);  // too short a run for the processor to guess
        for (int v = 0; v < 4; ++v) __builtin_prefetch(ahead + v * W);
      }
      tile.multiply(rows, 1, weights + (q * P + p) * width * width, P * width * width, width, width, next);
      next += width * W;
    }
    each_vector([](Vec<T>& sum, T* at, idx valid) { store(at, sum, valid); });
  }

  // Tiles are taken so that the inputs of some groups stay in cache while all panels of dgates go past them.
  void add_to_sums(Share tiles, idx rows, bool first) const {
    const idx some = most(1, (idx{3} << 17) / (most(1, rows) * tile_rows * idx{sizeof(T)}));
    for (idx i = tiles.begin; i < tiles.end; ++i) {
      const idx from = i / (P * some) * some, there = least(some, groups - from);
      const idx p = (i - from * P) / there, group = from + (i - from * P) % there;
      T* sum = sums.get() + (p * groups + group) * tile_rows * width;
      for (idx k = 0; !first && k < tile_rows * 4; ++k) __builtin_prefetch(sum + k * W, 1);
      Tile<T, tile_rows, 1, 4> tile;
      tile.clear();
      const T* factors[tile_rows];
      for (int r = 0; r < tile_rows; ++r) factors[r] = inputs.get() + group * capacity * tile_rows + r;
      tile.multiply(factors, tile_rows, dgates_at(p, 0), 0, width, rows, factors[0]);
      for (int r = 0; r < tile_rows; ++r)
        for (int v = 0; v < 4; ++v) {
          T* at = sum + r * width + v * W;
          store(at, first ? tile.acc[r][0][v] : load(at) + tile.acc[r][0][v]);
        }
    }
  }

  void finish(Share rows, Share of_panels, bool empty) const {
    const std::size_t bytes = sizeof(T) * static_cast<std::size_t>(b.hidden);
    for (idx n = rows.begin; n < rows.end; ++n) {
      if (b.dh_0) std::memcpy(b.dh_0 + n * b.hidden, dh_rows.get()[n], bytes);
      if (b.dc_0) std::memcpy(b.dc_0 + n * b.hidden, dc_at(n), bytes);
    }
    if (!wants_weights) return;
    for (idx p = of_panels.begin; p < of_panels.end; ++p) {
      T* sum = sums.get() + p * groups * tile_rows * width;
      if (empty) std::memset(sum, 0, sizeof(T) * static_cast<std::size_t>(groups * tile_rows * width));
      if (b.dweight_ih) unpack_transposed(panels, p, sum, b.input, b.dweight_ih);
      sum += b.input * width;
      if (b.dweight_hh) unpack_transposed(panels, p, sum, b.hidden, b.dweight_hh);
      if (b.dbias) unpack_transposed(panels, p, sum + b.hidden * width, 1, b.dbias);
    }
  }
};

template <class T>
void backward(const Backward<T>& b) {
  BackwardPass<T> pass(b);
  const int threads = useful_threads(b);
  parallel(threads, [](void* p, const Team& team) { static_cast<BackwardPass<T>*>(p)->work(team); }, &pass);
}

}  // namespace
}  // namespace undertow
