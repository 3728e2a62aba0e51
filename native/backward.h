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
#include "product.h"
#include "varied_backward.h"

namespace undertow {
namespace {

// Rows (t,n) taken together: enough to pay for reading and writing the sums once a block.
template <class T>
idx block_rows(const Problem<T>& b) {
  return most(256, least(1024, (b.input + b.hidden) / 4));
}

struct NoGradients {  // no variant
  template <class B>
  NoGradients(const B&, idx, idx) {}
  static constexpr bool whole_rows() { return false; }
};

template <class S, bool varied>
class BackwardPass {
  using T = Real<S>;
  using F = Factor<S>;
  using K = Kept<S>;
  using Given = std::conditional_t<varied, VariedBackward<S>, Backward<S>>;

 public:
  explicit BackwardPass(const Given& b)
      : b(b), panels{b.cell, b.hidden}, P(panels.count()), padded(ceil_div(b.hidden, W) * W),
        wants_weights(b.dweight_ih || b.dweight_hh || b.dbias), ahead(calls_ahead(b)),
        capacity(most(b.batch, least(block_rows(b), b.steps * b.batch)) / 2 * 2 + 2),
        h_at(has_norms(b) ? ceil_div(b.input, tile_rows) * tile_rows : b.input), fan_in(h_at + b.hidden + 1),
        groups(wants_weights ? ceil_div(fan_in, tile_rows) : 0), h_groups(ceil_div(b.hidden, width)),
        x_groups(b.dx.data ? ceil_div(b.input, width) : 0), dgates(P * capacity * width),
        dgates_x(has_norms(b) ? P * capacity * width : 0), dgates_paired(pairs ? P * capacity * width / parts<S> : 0),
        inputs(groups * capacity * tile_rows / (pairs ? parts<S> : 1)), sums(P * groups * tile_rows * width),
        dh(b.batch * padded + b.threads * apart<T>), dc(b.batch * padded + b.threads * apart<T>),
        weight_hh(h_groups * P * width * width / parts<S>), weight_ih(x_groups * P * width * width / parts<S>),
        dx(std::is_same_v<S, T> ? 0 : capacity * x_groups * width), dh_rows(b.batch), dc_rows(b.batch),
        dx_rows(capacity), dx_places(std::is_same_v<S, T> ? 0 : capacity), joined(b.threads * joined_size()),
        columns(sums_symbols() ? P * b.symbol_count * width : 0), row_symbols(sums_symbols() ? capacity : 0),
        variant(b, h_groups * width, capacity) {}

  void work(const Team& team) {
    prepare(team);
    const Share mine = share_sequences(b, team, 0, b.steps);
    const bool by_units = !variant.whole_rows() && split_units(b, team, b.hidden);
    const Share columns = by_units ? share(h_groups, team) : Share{0, h_groups};
    begin(mine, team.id * apart<T>);
    if constexpr (varied) variant.begin(mine, share(P, team));
    std::memset(joined.get() + team.id * joined_size(), 0, sizeof(T) * static_cast<std::size_t>(joined_size()));
    team.barrier();
    bool first = true;
    for (idx end = b.steps; end > 0; first = false) {
      const idx start = block_start(end);
      // Cut anew where lengths differ: all meet at the end of the block.
      const Share own = share_sequences(b, team, start, end), taken = by_units ? Share{0, b.batch} : own;
      idx row = rows_between(start, end);
      const idx rows = row;
      const idx lone = pairs && rows % 2 ? rows - 1 : -1;  // a row without a partner, which gets one of zeros
      for (idx s = end; s-- > start;) {
        row -= b.active(s);
        keep(s, row, own, joined.get() + team.id * joined_size(), lone);
        if (b.dx.data && !b.dx.starts) clear_idle(s, share(b.batch - b.active(s), team));
        const Share active{taken.begin, most(taken.begin, least(taken.end, b.active(s)))};
        gate_gradients(s, row, active, columns, lone, team.id);
        if (s == 0 && !b.dh_0 && !varied) continue;
        if (by_units) team.barrier();
        product(weight_hh.get(), b.hidden, false).take(columns, {row + active.begin, row + active.end},
                                                       dh_rows.get() + active.begin);
        if constexpr (varied)
          for (idx n = active.begin; n < active.end; ++n) variant.carry(at(s, n, row + n, team.id), columns);
      }
      team.barrier();
      const Share some = share(rows, team);
      if (x_groups) inputs_gradients(some);
      if (wants_weights) add_to_sums(share(P * groups, team), rows, first);
      if (sums_symbols()) add_to_columns(share(P, team), rows);
      if constexpr (varied) variant.add(share(P, team), rows, b.tape_start(start));
      team.barrier();
      end = start;
    }
    finish(mine, share(P, team), first);
  }

 private:
  static constexpr idx W = lanes<T>, width = Panels<T>::width;
  static constexpr idx panel_factors = Product<S>::panel_factors;
  static constexpr bool pairs = parts<S> == 2;
  static constexpr const S* none = nullptr;
  const Given& b;
  const Panels<T> panels;
  const idx P;                // panels of hidden units
  const idx padded;           // H in whole vectors
  const bool wants_weights;
  const bool ahead;           // a step calls for the x and y of the one before
  const idx capacity;         // rows (t,n) of a block
  const idx h_at;             // where h stands in what feeds a gate: behind x, with norms in another group
  const idx fan_in;           // h_at + H + 1: what feeds a gate; the 1 is the bias
  const idx groups;           // of tile_rows of them
  const idx h_groups, x_groups;  // of 4W columns of weight_hh and weight_ih
  Scratch<K> dgates;          // [p][row][4][W]
  Scratch<K> dgates_x;        // the same of W x_t, where norms make it another
  Scratch<F> dgates_paired;   // [p][row/2][4][W]: neighbouring rows in one factor, where factors are pairs
  Scratch<F> inputs;          // [row][group][tile_rows]: x_t, h_{t-1}, 1; in pairs [row/2][group][tile_rows]
  Scratch<T> sums;            // [p][group][tile_rows][4][W]: transposed dW, dU, db
  Scratch<T> dh, dc;          // [N][padded]: carried back, each thread's apart
  Scratch<F> weight_hh, weight_ih;  // [q][p][4*W / parts][4W]
  Scratch<T> dx;              // [row][x_groups*4W], where it is not summed in place
  Scratch<T*> dh_rows, dc_rows;  // where each sequence's are
  Scratch<T*> dx_rows;        // where the dx of each row of the block is summed
  Scratch<S*> dx_places;      // and where it goes then
  Scratch<T> joined;          // of each thread: what feeds the gates of one row, where pairs are made of it
  Scratch<T> columns;         // [p][S][4][W]: the sums of each symbol's column of dweight_ih
  Scratch<idx> row_symbols;   // of each row of the block
  const std::conditional_t<varied, VariedGradients<T>, NoGradients> variant;

  static bool has_norms(const Given& b) {
    if constexpr (varied) return b.variant.gain_x;
    else return (void)b, false;
  }
  bool sums_symbols() const { return !varied && b.symbols.data && b.dweight_ih; }
  T* column(idx p, idx symbol) const { return columns.get() + (p * b.symbol_count + symbol) * width; }
  idx joined_size() const { return pairs ? groups * tile_rows + apart<T> : 0; }
  K* dgates_at(idx p, idx row, bool of_x = false) const {
    K* all = varied && of_x && variant.whole_rows() ? dgates_x.get() : dgates.get();
    return all + (p * capacity + row) * width;
  }
  const F* dgates_factors(idx p, idx row, bool of_x = false) const {
    return reinterpret_cast<const F*>(dgates_at(p, row, of_x));
  }
  Product<S> product(const F* weights, idx columns, bool of_x) const {
    return {dgates_at(0, 0, of_x), capacity, P, weights, columns};
  }
  F* pairs_at(idx p, idx row) const { return dgates_paired.get() + (p * capacity + row) / parts<S> * width; }
  F* inputs_at(idx group, idx row) const {
    return inputs.get() + (row / parts<S> * groups + group) * tile_rows;
  }
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
    const Share h = share(h_groups, team), x = share(x_groups, team), units = share(P, team);
    if (sums_symbols()) copy(column(units.begin, 0), none, (units.end - units.begin) * b.symbol_count * width);
    for (idx q = h.begin; q < h.end && (b.steps > 1 || b.dh_0 || varied); ++q)
      pack_columns(panels, q, b.weight_hh, b.hidden, weight_hh.get() + q * P * panel_factors);
    for (idx q = x.begin; q < x.end; ++q)
      pack_columns(panels, q, b.weight_ih, b.input, weight_ih.get() + q * P * panel_factors);
  }

  void begin(Share rows, idx offset) const {
    for (idx n = rows.begin; n < rows.end; ++n) {
      dh_rows.get()[n] = dh.get() + n * padded + offset;
      dc_rows.get()[n] = dc.get() + n * padded + offset;
      copy(dh_rows.get()[n], none, padded);
      copy(dh_rows.get()[n], b.dh_n ? b.dh_n + b.place(n) * b.hidden : nullptr, b.hidden);
      copy(dc_at(n), none, padded);
      copy(dc_at(n), b.dc_n ? b.dc_n + b.place(n) * b.hidden : nullptr, b.hidden);
    }
  }

  // Of one step, for these sequences: what dx and the weights' gradients will need at the end of the block.
  // `row` is where the step's rows start in it.
  void keep(idx s, idx row, Share own, T* joined, idx lone) const {
    const idx t = b.time(s), end = least(own.end, b.active(s));
    for (idx n = own.begin; n < end; ++n) {
      if (wants_weights) keep_inputs(t, n, previous_h(s, n), row + n, joined, lone);
      if (sums_symbols()) row_symbols.get()[row + n] = static_cast<idx>(*b.symbols.at(t, n));
      if (x_groups) set_dx_row(row + n, b.dx.at(t, n));
      if (b.x.order && x_groups) call_row(b.dx.at(t, n), b.input);
      if (!ahead || s < 2 || n >= b.active(s - 2)) continue;
      call_row(b.x.at(b.time(s - 1), n), b.input);
      call_row(b.y.at(b.time(s - 2), n), b.hidden);
    }
  }

  void clear_idle(idx s, Share idle) const {  // padded, and past a sequence's end
    for (idx n = idle.begin; n < idle.end; ++n)
      copy(b.dx.at(b.time(s), b.active(s) + n), none, b.input);
  }

  void gate_gradients(idx s, idx row, Share rows, Share columns, idx lone, idx thread) const {
    const idx panels_in_group = b.cell == Cell::lstm ? 4 : 1;
    const Share units{columns.begin * panels_in_group, least(P, columns.end * panels_in_group)};
    for (idx n = rows.begin; n < rows.end; ++n)
      if constexpr (varied) variant.row(at(s, n, row + n, thread), units);
      else if (b.cell == Cell::lstm) lstm_row(s, n, units, row + n, lone);
      else
        for (idx p = units.begin; p < units.end; ++p) rnn_units(s, b.time(s), n, p, row + n, lone);
  }

  StepBackward<T> at(idx s, idx n, idx place, idx thread) const {
    return {s, b.time(s), n, b.tape_start(s) + n, place, dh_rows.get()[n], dc_at(n),
            variant.kept_of(n, dh_rows.get()[n] - dh.get() - n * padded), dgates_at(0, place),
            dgates_x.get() + place * width, capacity * width, variant.room_of(thread)};
  }

  // The gradient of vector v of panel p, where the products of pairs look for it.
  UNDERTOW_INLINE void keep_pair(idx p, idx row, idx v, Vec<T> d, idx lone) const {
#if defined(__AVX512BF16__)
    F* at = pairs_at(p, row) + v * W;
    store_part(at, d, row % 2);
    if (row == lone) store_part(at, Vec<T>{}, true);
#endif
    (void)p, (void)row, (void)v, (void)d, (void)lone;
  }

  const S* previous_h(idx s, idx n) const {  // null: zero
    if constexpr (varied)
      if (variant.resets(b.time(s), n)) return variant.reset_h(n);
    if (!b.begins(s, n)) return b.y.at(b.time(s - 1), n);
    return b.h_0 ? b.h_0 + b.place(n) * b.hidden : nullptr;
  }

  UNDERTOW_INLINE Vec<T> arriving(idx t, idx n, idx u, idx valid) const {
    Vec<T> d = load(dh_rows.get()[n] + u, valid);
    if (b.dy.data) d += load(b.dy.at(t, n) + u, valid);
    return d;
  }

  // Where a row's numbers are, found once: the compiler would look for them again after every store.
  struct LstmRow {
    const S *gates, *dy;
    const T *c_before, *c_after;
    const S *gates_ahead, *dy_ahead;  // of the step before
    const T* c_ahead;
    T *dh, *dc;
    idx tape, place, hidden;
  };

  UNDERTOW_INLINE void lstm_row(idx s, idx n, Share units, idx place, idx lone) const {
    const idx H = b.hidden, tape = b.tape_start(s) + n;
    LstmRow r{b.gates + tape * 4 * H, b.dy.data ? b.dy.at(b.time(s), n) : nullptr, b.c + b.c_before(s, n) * H,
              b.c + b.c_after(s, n) * H, nullptr, nullptr, nullptr, dh_rows.get()[n], dc_at(n), tape, place, H};
    // Steps lie far apart in the tape and are read backwards, which no processor foresees: call for the step before.
    const bool before = s > 0 && n < b.active(s - 1);
    r.gates_ahead = before ? b.gates + (b.tape_start(s - 1) + n) * 4 * H : r.gates;
    r.c_ahead = before ? b.c + b.c_before(s - 1, n) * H : r.c_before;
    r.dy_ahead = before && r.dy ? b.dy.at(b.time(s - 1), n) : r.gates;
    const bool steps = b.dgates || b.dh || b.dc;
    K* dgates = dgates_at(units.begin, place);
    const idx panel_stride = capacity * width;
    for (idx p = units.begin; p < units.end; ++p, dgates += panel_stride) lstm_units(r, p, dgates, lone, steps);
  }

  UNDERTOW_INLINE void lstm_units(const LstmRow r, idx p, K* dgates, idx lone, bool steps) const {
    const idx H = r.hidden, u = p * W, valid = H - u;
    for (int v = 0; v < 4; ++v) __builtin_prefetch(r.gates_ahead + v * H + u, 0, 2);
    __builtin_prefetch(r.c_ahead + u, 0, 2);
    __builtin_prefetch(r.dy_ahead + u, 0, 2);
    const S* gates = r.gates + u;
    const Vec<T> i = load(gates, valid), f = load(gates + H, valid);
    const Vec<T> g = load(gates + 2 * H, valid), o = load(gates + 3 * H, valid);
    const Vec<T> tc = tanh<T>(load(r.c_after + u, valid)), before = load(r.c_before + u, valid);
    Vec<T> dht = load(r.dh + u, valid);
    if (r.dy) dht += load(r.dy + u, valid);
    const Vec<T> dct = load(r.dc + u) + dht * o * (T(1) - tc * tc);
    const Vec<T> d[4] = {dct * g * i * (T(1) - i), dct * before * f * (T(1) - f), dct * i * (T(1) - g * g),
                         dht * tc * o * (T(1) - o)};
    for (int v = 0; v < 4; ++v) {
      store(dgates + v * W, d[v]);
      if constexpr (pairs) keep_pair(p, r.place, v, d[v], lone);
    }
    store(r.dc + u, dct * f);
    if (!steps) return;
    for (int v = 0; b.dgates && v < 4; ++v) store(b.dgates + (r.tape * 4 + v) * H + u, d[v], valid);
    if (b.dh) store(b.dh + r.tape * H + u, dht, valid);
    if (b.dc) store(b.dc + r.tape * H + u, dct, valid);
  }

  UNDERTOW_INLINE void rnn_units(idx s, idx t, idx n, idx p, idx place, idx lone) const {
    for (idx v = 0; v < 4; ++v) {
      const idx u = panels.unit(p, v), valid = panels.valid(p, v);
      Vec<T> d = {};
      if (valid) {
        const Vec<T> h = load(b.y.at(t, n) + u, valid), dht = arriving(t, n, u, valid);
        d = dht * (T(1) - h * h);
        const idx at = (b.tape_start(s) + n) * b.hidden + u;
        if (b.dh) store(b.dh + at, dht, valid);
        if (b.dgates) store(b.dgates + at, d, valid);
      }
      store(dgates_at(p, place) + v * W, d);
      if constexpr (pairs) keep_pair(p, place, v, d, lone);
    }
  }

  // x_t, h_{t-1} and 1. Numbers lie where the tiles read them, side by side; pairs are made of two such rows.
  void keep_inputs(idx t, idx n, const S* h, idx row, T* joined, idx lone) const {
    if constexpr (!pairs) joined = inputs_at(0, row);
    copy(joined, b.x.at(t, n), b.input);
    copy(joined + h_at, h, b.hidden);
    if constexpr (varied) {
      if (variant.masked(t, n)) copy(joined, none, b.input);
      if (const T* factors = variant.recurrent(n))
        for (idx k = 0; k < b.hidden; ++k) joined[h_at + k] *= factors[k];
    }
    joined[h_at + b.hidden] = T(1);
#if defined(__AVX512BF16__)
    if constexpr (pairs)
      for (idx k = 0; k < groups * tile_rows; k += W) {
        F* at = inputs_at(0, row) + k;
        const idx count = groups * tile_rows - k;
        store_part(at, load(joined + k, count), row % 2, count);
        if (row == lone) store_part(at, Vec<T>{}, true, count);
      }
#endif
    (void)lone;
  }

  void set_dx_row(idx row, S* in_place) const {
    if constexpr (std::is_same_v<S, T>) dx_rows.get()[row] = in_place;
    else {
      dx_rows.get()[row] = dx.get() + row * x_groups * width;
      dx_places.get()[row] = in_place;
    }
  }

  void inputs_gradients(Share rows) const {
    product(weight_ih.get(), b.input, true).take({0, x_groups}, rows, dx_rows.get() + rows.begin);
    if constexpr (!std::is_same_v<S, T>)
      for (idx row = rows.begin; row < rows.end; ++row) copy(dx_places.get()[row], dx_rows.get()[row], b.input);
  }

  // Tiles are taken so that the inputs of some groups stay in cache while all panels of dgates go past them.
  void add_to_sums(Share tiles, idx rows, bool first) const {
    const idx some = most(1, (idx{3} << 17) / (most(1, rows) * tile_rows * idx{sizeof(T)}));
    for (idx i = tiles.begin; i < tiles.end; ++i) {
      const idx from = i / (P * some) * some, there = least(some, groups - from);
      const idx p = (i - from * P) / there, group = from + (i - from * P) % there;
      const idx left = fan_in - group * tile_rows;  // what lies in a tile past them is of no meaning
      if (left == 1) add_tile<1>(p, group, rows, first);
      else if (left <= tile_rows / 2) add_tile<tile_rows / 2>(p, group, rows, first);
      else add_tile<tile_rows>(p, group, rows, first);
    }
  }

  template <int R>
  void add_tile(idx p, idx group, idx rows, bool first) const {
    T* sum = sums.get() + (p * groups + group) * tile_rows * width;
    for (idx k = 0; !first && k < R * 4; ++k) __builtin_prefetch(sum + k * W, 1);
    Tile<T, R, 1, 4> tile;
    tile.clear();
    const F* factors[R];
    for (int r = 0; r < R; ++r) factors[r] = inputs_at(group, 0) + r;
    if (pairs) tile.multiply(factors, groups * tile_rows, pairs_at(p, 0), 0, width, ceil_div(rows, 2), factors[0]);
    else tile.multiply(factors, groups * tile_rows, dgates_factors(p, 0, group * tile_rows < h_at), 0, width, rows, factors[0]);
    tile.each_sum([&](const Vec<T>& added, int r, int, int v) UNDERTOW_INLINED {
      T* at = sum + r * width + v * W;
      store(at, first ? added : load(at) + added);
    });
  }

  // The column of each row's symbol += the gradients of its gates.
  void add_to_columns(Share of_panels, idx rows) const {
    for (idx p = of_panels.begin; p < of_panels.end; ++p)
      for (idx row = 0; row < rows; ++row) {
        T* sum = column(p, row_symbols.get()[row]);
        const K* d = dgates_at(p, row);
        for (int v = 0; v < 4; ++v) store(sum + v * W, load(sum + v * W) + load(d + v * W));
      }
  }

  void finish(Share rows, Share of_panels, bool empty) const {
    for (idx n = rows.begin; n < rows.end; ++n) {
      if (b.dh_0) copy(b.dh_0 + b.place(n) * b.hidden, dh_rows.get()[n], b.hidden);
      if (b.dc_0) copy(b.dc_0 + b.place(n) * b.hidden, dc_at(n), b.hidden);
    }
    if (!wants_weights) return;
    for (idx p = of_panels.begin; p < of_panels.end; ++p) {
      T* sum = sums.get() + p * groups * tile_rows * width;
      if (empty) std::memset(sum, 0, sizeof(T) * static_cast<std::size_t>(groups * tile_rows * width));
      if (sums_symbols()) unpack_transposed(panels, p, column(p, 0), b.symbol_count, b.dweight_ih);
      else if (b.dweight_ih) unpack_transposed(panels, p, sum, b.input, b.dweight_ih);
      sum += h_at * width;
      if (b.dweight_hh) unpack_transposed(panels, p, sum, b.hidden, b.dweight_hh);
      if (b.dbias && !variant.whole_rows()) unpack_transposed(panels, p, sum + b.hidden * width, 1, b.dbias);
    }
  }
};

template <class S, bool varied>
void run_backward(const std::conditional_t<varied, VariedBackward<S>, Backward<S>>& b) {
  using Pass = BackwardPass<S, varied>;
  Pass pass(b);
  const int threads = useful_threads(b);
  parallel(threads, [](void* p, const Team& team) { static_cast<Pass*>(p)->work(team); }, &pass);
}

}  // namespace
}  // namespace undertow
