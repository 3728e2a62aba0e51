// Forward: c_t = f*c_{t-1} + i*g, h_t = o*tanh(c_t); plain RNN: h_t = tanh(.).
//
// Each thread takes its share (split.h) through all time steps. A tile is
// computed in registers (x and h as one sum) and goes through its activations before it is written. The running
// h and c are kept apart from y and the tape, in whole vectors, where no other core's prefetching disturbs them.
#pragma once
#include "varied_forward.h"

namespace undertow {
namespace {

struct NoVariant {  // no variant
  template <class F>
  NoVariant(const F&, idx) {}
  static constexpr bool whole_rows() { return false; }
};

template <class S, bool varied>
class ForwardPass {
  using T = Real<S>;
  using F = Factor<S>;
  using K = Kept<S>;
  using Given = std::conditional_t<varied, VariedForward<S>, Forward<S>>;

 public:
  explicit ForwardPass(const Given& f)
      : f(f), panels{f.cell, f.hidden}, once(f.steps * f.batch == 1 && !reads_symbols()),
        past_caches(exceeds_caches(f)), ahead(calls_ahead(f)), inputs(ceil_div(f.input, parts<S>)),
        most_inputs(reads_symbols() ? -1 : longest_sum), depth(inputs + ceil_div(f.hidden, parts<S>)),
        weights(once ? 0 : panels.count() * depth * width),
        bias(panels.count() * width), padded(odd_pages(panels.count() * (f.cell == Cell::lstm ? W : width))),
        hidden(2 * f.batch * padded + f.threads * apart<K>), cells(f.batch * padded + f.threads * apart<T>),
        turned(turns() ? f.steps * f.batch * inputs : 0), columns(reads_symbols() ? panels.count() * f.symbol_count * width : 0),
        widened(std::is_same_v<S, T> || !reads_symbols() ? 0 : gates_of(f.cell) * f.hidden * f.symbol_count),
        variant(f, padded) {}

  void work(const Team& team) {
    const Share mine = share(panels.count(), team);
    for (idx p = mine.begin; p < mine.end; ++p) {
      sum_biases(p);
      if (!once) pack(p);
      if (reads_symbols()) pack_symbols(p);
    }
    team.barrier();
    const Share rows = share_sequences(f, team, 0, f.steps);
    const bool by_units = !variant.whole_rows() && split_units(f, team, f.input + f.hidden);
    const Share all{0, f.batch}, own = by_units ? all : rows;
    const Share units = by_units ? mine : Share{0, panels.count()};
    const idx away = by_units ? 0 : team.id;
    Running run{own.begin, (own.end - own.begin) * padded, hidden.get() + 2 * own.begin * padded + away * apart<K>,
                cells.get() + own.begin * padded + away * apart<T>};
    run.away = away * apart<T>;
    begin(run, rows);
    idx running = rows.end;  // up to here they have not come to their end
    for (idx s = 0; s < f.steps; ++s, run.now ^= 1) {
      if (by_units) team.barrier();
      const idx active = f.active(s);
      if (varied) run.next_active = s + 1 < f.steps ? f.active(s + 1) : 0;
      run.t = f.time(s), run.next_t = s + 1 < f.steps ? f.time(s + 1) : -1, run.row = f.tape_start(s);
      run.y = f.y.start(run.t), run.next_y = run.next_t < 0 ? run.y : f.y.start(run.next_t);
      step(run, {own.begin, least(own.end, active)}, units);
      if (!f.y.starts)  // padded: past a sequence's end
        for (idx n = most(rows.begin, active); n < rows.end; ++n) copy(f.y.at(run.t, n), none, f.hidden);
      if (!f.reverse)
        while (running > most(rows.begin, active)) finish(run, --running);
    }
    if (past_caches) written_past();
    if (by_units) team.barrier();
    for (idx n = rows.begin; n < running; ++n) finish(run, n);
  }

 private:
  static constexpr idx W = lanes<T>, width = Panels<T>::width;
  static constexpr const S* none = nullptr;
  const Given& f;
  const Panels<T> panels;
  const bool once;     // a single step of a single sequence: packing the weights would cost more than using them
  const bool past_caches;  // the tape goes straight to memory: it is larger than the caches
  const bool ahead;        // a step calls for the x and y of the next one
  const idx inputs;    // factors that x_t makes; none of symbols
  const idx most_inputs;  // that a tile adds up by itself; below 0 with symbols
  const idx depth;     // and h_{t-1} with it
  Scratch<F> weights;  // [p][depth][4][W]
  Scratch<T> bias;     // [p][4][W]
  const idx padded;    // H in whole vectors
  Scratch<K> hidden;   // of each thread: h before and after the step, [2][its sequences][padded]
  Scratch<T> cells;    // c, [its sequences][padded]
  Scratch<F> turned;   // [T][N][inputs]: x in factors, where it does not lie in them already
  Scratch<T> columns;  // [p][S][4][W]: the columns of weight_ih, of which each symbol adds one
  Scratch<T> widened;  // weight_ih, where it is not kept in T
  const std::conditional_t<varied, VariedUnits<T>, NoVariant> variant;

  // A tape this large has left the caches when backward reads it. Written past them in whole lines, it is not read from
  // memory first, and does not drive out what they hold.
  static bool exceeds_caches(const Given& f) {
    const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % vector_bytes == 0; };
    return f.gates && f.hidden % W == 0 && aligned(f.gates) && aligned(f.c) &&
           f.tape_start(f.steps) * 5 * f.hidden * idx{sizeof(T)} > idx{64} << 20;
  }

  // Rows a whole number of pages long would all fall into the same few lines of the first cache.
  static idx odd_pages(idx row) { return row * idx{sizeof(K)} % 4096 ? row : row + 2 * W; }

  struct Running {
    idx first, size;
    K* h;
    T* c;
    idx away = 0;  // of a variant's scratch
    int now = 0;  // which of the two h is h_{t-1}
    // of the step: its time, the next one's or -1, where y of both begins, the tape's first row
    idx t = 0, next_t = -1, row = 0;
    S *y = nullptr, *next_y = nullptr;
    idx next_active = 0;
  };

  bool reads_symbols() const { return !varied && f.symbols.data; }
  bool lstm() const { return varied || f.cell == Cell::lstm; }  // nothing is added to the RNN
  bool turns() const { return !std::is_same_v<K, S> || f.input % parts<S>; }
  F* panel(idx p) const { return weights.get() + p * depth * width; }
  T* column(idx p, idx symbol) const { return columns.get() + (p * f.symbol_count + symbol) * width; }
  K* h_before(const Running& run, idx n) const { return run.h + run.now * run.size + (n - run.first) * padded; }
  K* h_after(const Running& run, idx n) const { return run.h + (run.now ^ 1) * run.size + (n - run.first) * padded; }
  StepForward<T> at(const Running& run, idx n) const {
    return {run.t, n, run.row + n, n < run.next_active ? run.next_t : -1, c_of(run, n), variant.h_of(n, run.away),
            h_after(run, n), run.y + f.y.offset(n), variant.sums_of(n, run.away)};
  }
  T* c_of(const Running& run, idx n) const { return run.c + (n - run.first) * padded; }
  const F* x_factors(idx t, idx n) const {
    if (turns()) return turned.get() + (t * f.batch + n) * inputs;
    return reinterpret_cast<const F*>(f.x.at(t, n));
  }
  const F* h_factors(const Running& run, idx n) const { return reinterpret_cast<const F*>(h_before(run, n)); }

  void pack(idx p) {
    pack_transposed(panels, p, f.weight_ih, f.input, panel(p));
    pack_transposed(panels, p, f.weight_hh, f.hidden, panel(p) + inputs * width);
  }

  void pack_symbols(idx p) {
    const idx count = f.symbol_count;
    if constexpr (std::is_same_v<S, T>) pack_transposed(panels, p, f.weight_ih, count, column(p, 0));
    else {
      for (idx v = 0; v < 4; ++v) {
        const idx from = panels.row(p, v) * count, valid = panels.valid(p, v);
        if (valid) copy(widened.get() + from, f.weight_ih + from, valid * count);
      }
      pack_transposed<T>(panels, p, widened.get(), count, column(p, 0));
    }
  }

  void sum_biases(idx p) {
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
      const idx from = f.place(n) * f.hidden;
      for (K* h : {h_before(run, n), h_after(run, n)}) {  // in both: it may begin late
        copy(h, none, padded);  // lanes past H stay zero
        copy(h, f.h_0 ? f.h_0 + from : nullptr, f.hidden);
      }
      copy(c_of(run, n), none, padded);
      copy(c_of(run, n), f.c_0 ? f.c_0 + from : nullptr, f.hidden);
      if (f.c) copy(f.c + n * f.hidden, c_of(run, n), f.hidden);
      if constexpr (varied) {
        variant.begin(n, c_of(run, n), variant.h_of(n, run.away), h_before(run, n));
        copy(h_after(run, n), h_before(run, n), padded);
      }
      for (idx s = 0; turns() && s < f.steps && inputs; ++s)
        if (n < f.active(s)) turn(f.time(s), n);
    }
  }

  void turn(idx t, idx n) const {
    K* to = reinterpret_cast<K*>(turned.get() + (t * f.batch + n) * inputs);
    if (f.input % parts<S>) to[f.input] = K{};
    copy(to, f.x.at(t, n), f.input);
  }

  void step(const Running& run, Share rows, Share units) const {
    for (idx p = units.begin; p < units.end;) {
      if (once && rows.end > rows.begin) unpacked(run, p++);
      else p += panel_step(run, p, units.end, rows);
    }
    if constexpr (varied)
      for (idx n = rows.begin; variant.whole_rows() && n < rows.end; ++n) variant.normed_row(at(run, n), bias.get());
  }

  // What the sums of vector v of panel p start from: biases come after norms.
  UNDERTOW_INLINE Vec<T> start(idx p, int v) const {
    return variant.whole_rows() ? Vec<T>{} : load(bias.get() + p * width + v * W);
  }

  void unpacked(const Running& run, idx p) const {
    Vec<T> sums[4];
    for (int v = 0; v < 4; ++v) sums[v] = start(p, v);
    if (inputs <= longest_sum) multiply_once(panels, p, f.weight_ih, f.input, x_factors(0, 0), sums);
    else multiply_once_in_pieces(panels, p, f.weight_ih, f.input, x_factors(0, 0), sums);
    if constexpr (varied)
      if (variant.whole_rows()) {
        variant.keep_sums(at(run, 0), p, 0, sums);
        for (int v = 0; v < 4; ++v) sums[v] = Vec<T>{};
      }
    multiply_once(panels, p, f.weight_hh, f.hidden, h_factors(run, 0), sums);
    Tile<T, 1, 1, 4> done;
    std::memcpy(&done, sums, sizeof done);
    activate<1, 1, 4>(run, 0, p, done, 0);
  }

  // All rows through one panel, or several where few rows leave registers free. Returns the panels done.
  idx panel_step(const Running& run, idx p, idx end, Share rows) const {
    const int left = static_cast<int>(least(tile_rows, rows.end - rows.begin));
    const bool few = left >= 1 && left == rows.end - rows.begin && lstm() && !reads_symbols();
    const bool wide = few && p + panels_at_once(left) <= end, pair = few && left == 1 && p + 2 <= end;
    // The panel that comes after: its four quarters are called for by the first four tiles of this one.
    const F* next = panel(p + 1 < end ? p + 1 : p);
    each_tile(rows, [&](auto r, idx n, idx number) {
      constexpr int R = decltype(r)::value;
      const F* quarter = next + least(3, number) * depth * W;
      if (wide) return tile<R, panels_at_once(R), 4>(run, p, n, quarter);
      if (pair) return tile<1, 2, 4>(run, p, n, quarter);
      if (lstm()) return tile<R, 1, 4>(run, p, n, quarter);
      if constexpr (!varied)
        with_extent<4>(panels.vectors(p), [&](auto v) { tile<R, 1, decltype(v)::value>(run, p, n, quarter); });
    });
    return wide ? panels_at_once(left) : pair ? 2 : 1;
  }

  template <int R, int P, int V>
  void tile(const Running& run, idx p, idx n, const F* next) const {
    Tile<T, R, P, V> tile;
    const F* rows[R];
    for (int r = 0; r < R; ++r) {
      rows[r] = x_factors(run.t, n + r);
      if (ahead && p == 0 && run.next_t >= 0) call_row(f.x.at(run.next_t, n + r), f.input);
    }
    // What symbols or many inputs add is summed apart, and the tile starts from them: it stays in registers all the time.
    Tile<T, R, 1, 4> sums[P];
    const bool few = inputs <= most_inputs;
    for (int q = 0; !few && q < P; ++q) begin_apart(sums[q], run, p + q, n, rows, next);
    const T* from = few ? bias.get() + p * width : reinterpret_cast<const T*>(sums);
    const idx row = few ? 0 : width, panel_width = few ? width : R * width;
    tile.each_sum([&](Vec<T>& sum, int r, int q, int v) UNDERTOW_INLINED {
      sum = load(from + r * row + q * panel_width + v * W);
    });
    if (few && variant.whole_rows()) tile.clear();
    tile.multiply(rows, 1, panel(p), depth * width, width, few ? inputs : 0, next);
    if constexpr (varied && V == 4)
      if (variant.whole_rows()) {
        for (int q = 0; q < P; ++q)
          for (int r = 0; r < R; ++r) variant.keep_sums(at(run, n + r), p + q, 0, tile.acc[r][q]);
        tile.clear();
      }
    for (int r = 0; r < R; ++r) rows[r] = h_factors(run, n + r);
    tile.multiply(rows, 1, panel(p) + inputs * width, depth * width, width, depth - inputs, next + inputs * W);
    // A copy, because what a loop over rows takes numbers from is in memory: the tile itself is to stay in registers.
    Tile<T, R, P, V> done = tile;
    for (int q = 0; q < P; ++q) activate<R, P, V>(run, n, p + q, done, q);
  }

  UNDERTOW_APART void add_symbol(const Running& run, idx p, idx n, Vec<T>* sums) const {
    const T* from = column(p, static_cast<idx>(*f.symbols.at(run.t, n)));
    for (int v = 0; v < 4; ++v) sums[v] += load(from + v * W);
  }

  // tile = the start and the symbol's column or, in pieces and sections, W x_t of many factors. Of one whole panel, whatever
  // the tile that asks: more code for what is seldom called would not pay.
  template <int R>
  UNDERTOW_APART void begin_apart(Tile<T, R, 1, 4>& tile, const Running& run, idx p, idx n, const F* const (&rows)[R],
                                  const F* next) const {
    const F* weights = panel(p);
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < 4; ++v) tile.acc[r][0][v] = start(p, v);
      if (reads_symbols()) add_symbol(run, p, n + r, tile.acc[r][0]);
    }
    if (!inputs) return;
    Tile<T, R, 1, 4> of_section;
    of_section.clear();
    for (idx k = 0; k < inputs; k += piece) {
      if (k && k % section == 0) {
        tile.add(of_section);
        of_section.clear();
      }
      Tile<T, R, 1, 4> of_piece;
      of_piece.clear();
      const F* a[R];
      for (int r = 0; r < R; ++r) a[r] = rows[r] + k;
      of_piece.multiply(a, 1, weights + k * width, depth * width, width, least(piece, inputs - k), next + k * W);
      of_section.add(of_piece);
    }
    tile.add(of_section);
  }

  // Rows n.. of panel p, whose sums are the tile's panel q.
  template <int R, int P, int V>
  UNDERTOW_INLINE void activate(const Running& run, idx n, idx p, Tile<T, R, P, V>& tile, int q) const {
    if constexpr (varied) {
      for (int r = 0; r < R; ++r)
        if (variant.whole_rows()) variant.keep_sums(at(run, n + r), p, 1, tile.acc[r][q]);
        else variant.units(at(run, n + r), p, tile.acc[r][q]);
    } else {
      if constexpr (V == 4)
        if (lstm()) {
          // Gates of all rows and then h of all rows: h waits for c longer than the processor sees ahead.
          for (int r = 0; r < R; ++r) lstm_gates(run, n + r, p, tile.acc[r][q]);
          for (int r = 0; r < R; ++r) lstm_outputs(run, n + r, p, tile.acc[r][q]);
          return;
        }
      for (int r = 0; r < R; ++r) rnn_units(run, n + r, p, tile.acc[r][q], least(V, panels.vectors(p)));
    }
  }

  // Leaves c and o in the first and the last of the sums.
  UNDERTOW_INLINE void lstm_gates(const Running& run, idx n, idx p, Vec<T> (&sums)[4]) const {
    const idx u = p * W, valid = panels.valid(p, 0);
    Vec<T> act[4] = {sums[0], sums[1], sums[2], sums[3]};
    undertow::activate<T, false, false, true, false>(act);
    const Vec<T> c = act[1] * load(c_of(run, n) + u) + act[0] * act[2];
    store(c_of(run, n) + u, c);
    sums[0] = c, sums[3] = act[3];
    if (!f.gates) return;
    T* cell = f.c + (f.batch + run.row + n) * f.hidden + u;
    S* gates = f.gates + (run.row + n) * 4 * f.hidden + u;
    if constexpr (vector_is_line && std::is_same_v<S, T>)
      if (past_caches) {
        store_past(cell, c);
        for (int v = 0; v < 4; ++v) store_past(gates + v * f.hidden, act[v]);
        return;
      }
    store(cell, c, valid);
    for (int v = 0; v < 4; ++v) store(gates + v * f.hidden, act[v], valid);
  }

  UNDERTOW_INLINE void lstm_outputs(const Running& run, idx n, idx p, const Vec<T> (&sums)[4]) const {
    const idx u = p * W, valid = panels.valid(p, 0), place = f.y.offset(n) + u;
    const Vec<T> h = rounded<S>(sums[3] * tanh<T>(sums[0]));
    store(h_after(run, n) + u, h);
    store(run.y + place, h, valid);
    if (ahead) __builtin_prefetch(run.next_y + place, 1);
  }

  UNDERTOW_INLINE void rnn_units(const Running& run, idx n, idx p, const Vec<T>* pre, int vectors) const {
    for (int v = 0; v < vectors; ++v) {
      const Vec<T> h = rounded<S>(tanh<T>(pre[v]));
      store(h_after(run, n) + panels.unit(p, v), h);
      store(run.y + f.y.offset(n) + panels.unit(p, v), h, panels.valid(p, v));
    }
  }

  void finish(const Running& run, idx n) const {
    if constexpr (varied) {
      if (f.h_n) copy(f.h_n + f.place(n) * f.hidden, variant.h_of(n, run.away), f.hidden);
    } else if (f.h_n) copy(f.h_n + f.place(n) * f.hidden, h_before(run, n), f.hidden);
    if (f.c_n) copy(f.c_n + f.place(n) * f.hidden, c_of(run, n), f.hidden);
  }
};

template <class S, bool varied>
void run_forward(const std::conditional_t<varied, VariedForward<S>, Forward<S>>& f) {
  using Pass = ForwardPass<S, varied>;
  Pass pass(f);
  const int threads = useful_threads(f);
  parallel(threads, [](void* p, const Team& team) { static_cast<Pass*>(p)->work(team); }, &pass);
}

}  // namespace
}  // namespace undertow
