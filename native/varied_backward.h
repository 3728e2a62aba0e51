// A variant (lstm.h) going backward: a sequence at a step. With c~ = f*c' + i*g, z the parts that zoneout keeps:
//
//   dh~ = (1-z_h)*dh                     dc~ = (1-z_c)*dc + dh~*o*(1 - tanh(c~)^2) + p_o*do
//   do  = dh~*tanh(c~)*o*(1-o)           df  = dc~*c'*f*(1-f)       dg = dc~*i*(1-g^2)
//   di  = dc~*g*i*(1-i)                  coupled: di = dc~*(g-c')*i*(1-i), df = 0
//   dc' = z_c*dc + dc~*f + p_i*di + p_f*df           dh' = z_h*dh + recurrent*([di df dg do] U)
//
// A masked step has z = 1. What a reset made h' and c' of gets their gradients, and the step before it none. With
// norms dc~ and the gates' gradients go back through LN: of v^ = scale*(v - mean) the way back is
// dv = scale*(dv^ - mean(dv^) - v^*mean(dv^*v^)).
#pragma once
#include "moments.h"
#include "scratch.h"
#include "split.h"

namespace undertow {
namespace {

// One sequence at one step.
template <class T>
struct StepBackward {
  idx s, t, n, row, place;  // row: of the tape; place: of the block
  T *dh, *dc;               // arriving from later steps; dc is then that of the step before
  T *kept;                  // the part of dh that does not go through the gates, out
  T *dgates, *dgates_x;     // of the sums, out: panel p at p * panel_stride; with norms that of W x_t apart
  idx panel_stride;
  T* room;                  // with norms: for a row's c^ and gradients
};

template <class T>
class VariedGradients {
 public:
  VariedGradients(const VariedBackward<T>& b, idx columns, idx capacity)
      : b(b), v(b.variant), panels{b.cell, b.hidden}, P(panels.count()), columns(columns), capacity(capacity),
        terms((b.dpeepholes ? 3 : 0) + (b.dgain_x ? 6 : 0)), kept(b.batch * columns + b.threads * apart<T>),
        room(v.gain_x ? b.threads * (2 * P * W + apart<T>) : 0), products(P * capacity * terms * W) {}

  bool whole_rows() const { return v.gain_x; }
  T* kept_of(idx n, idx away) const { return kept.get() + n * columns + away; }
  T* room_of(idx thread) const { return v.gain_x ? room.get() + thread * (2 * P * W + apart<T>) : nullptr; }
  bool masked(idx t, idx n) const { return v.mask && !v.mask[t * b.batch + b.place(n)]; }
  bool resets(idx t, idx n) const { return v.reset && v.reset[t * b.batch + b.place(n)]; }
  const T* reset_h(idx n) const { return v.reset_h ? v.reset_h + b.place(n) * b.hidden : nullptr; }
  const T* recurrent(idx n) const { return v.recurrent ? v.recurrent + b.place(n) * b.hidden : nullptr; }

  void begin(Share rows, Share of_panels) const {
    for (idx n = rows.begin; n < rows.end; ++n)
      for (T* to : {b.dreset_h, b.dreset_c})
        if (to) copy(to + b.place(n) * b.hidden, none, b.hidden);
    for (idx p = of_panels.begin; p < of_panels.end; ++p) {
      const idx valid = panels.valid(p, 0);
      for (idx k = 0; b.dpeepholes && k < 3; ++k) store(b.dpeepholes + k * b.hidden + p * W, Vec<T>{}, valid);
      for (T* to : {b.dgain_c, b.dbias_c})
        if (to) store(to + p * W, Vec<T>{}, valid);
      for (T* to : {b.dgain_x, b.dgain_h, b.dgain_x ? b.dbias : nullptr})
        for (idx k = 0; to && k < 4; ++k) store(to + k * b.hidden + p * W, Vec<T>{}, valid);
    }
  }

  UNDERTOW_INLINE void row(const StepBackward<T>& at, Share units) const {
    if (masked(at.t, at.n))
      for (idx p = units.begin; p < units.end; ++p) pass_over(at, p);
    else if (v.gain_x) normed_row(at);
    else
      for (idx p = units.begin; p < units.end; ++p) plain_units(at, p);
  }

  // The product with U is in dh: now the whole gradient of the state that the step started from.
  void carry(const StepBackward<T>& at, Share of_columns) const {
    const bool fresh = resets(at.t, at.n);
    const T* factors = recurrent(at.n);
    T* to = fresh && b.dreset_h ? b.dreset_h + b.place(at.n) * b.hidden : nullptr;
    const idx end = least(b.hidden, of_columns.end * 4 * W);
    for (idx u = of_columns.begin * 4 * W; u < end; u += W) {
      const idx valid = end - u;
      Vec<T> d = load(at.dh + u, valid);
      if (factors) d *= load(factors + u, valid);
      d += load(at.kept + u, valid);
      if (to) store(to + u, load(to + u, valid) + d, valid);
      store(at.dh + u, fresh ? Vec<T>{} : d, valid);
    }
  }

  // A block's contribution to the sums of all units in these panels; its rows are the tape's from `first` on.
  void add(Share of_panels, idx rows, idx first) const {
    for (idx p = of_panels.begin; p < of_panels.end; ++p) {
      for (idx k = 0; b.dpeepholes && k < 3; ++k) add_term(b.dpeepholes + k * b.hidden, p, rows, k);
      if (!b.dgain_x) continue;
      for (idx k = 0; k < 4; ++k) add_gate(p, rows, first, k);
      add_term(b.dgain_c, p, rows, terms - 2);
      add_term(b.dbias_c, p, rows, terms - 1);
    }
  }

 private:
  static constexpr idx W = lanes<T>;
  static constexpr const T* none = nullptr;
  const VariedBackward<T>& b;
  const Variant<T>& v;
  const Panels<T> panels;
  const idx P, columns, capacity;
  const idx terms;      // sums over all rows that a unit has part in, beside the weights'
  Scratch<T> kept;      // [N][columns]
  Scratch<T> room;      // of each thread
  Scratch<T> products;  // [p][row of the block][term][W]: what those sums are taken of

  struct Step {  // of a panel's units, from the tape
    Vec<T> i, f, g, o, before, c;  // c' and c~
    Vec<T> dh, keep_h, keep_c;     // arriving, through y too; the parts that zoneout keeps
  };

  T* product(idx p, idx row, idx term) const { return products.get() + ((p * capacity + row) * terms + term) * W; }

  void add_term(T* to, idx p, idx rows, idx term) const {
    const idx valid = panels.valid(p, 0);
    Vec<T> sum = load(to + p * W, valid);
    for (idx row = 0; row < rows; ++row) sum += load(product(p, row, term));
    store(to + p * W, sum, valid);
  }

  // Of gate k: the bias's gradient, and with what was normalised those of both gains.
  void add_gate(idx p, idx rows, idx first, idx k) const {
    const idx H = b.hidden, u = k * H + p * W, valid = panels.valid(p, 0);
    Vec<T> bias = b.dbias ? load(b.dbias + u, valid) : Vec<T>{};
    Vec<T> gain_x = load(b.dgain_x + u, valid), gain_h = load(b.dgain_h + u, valid);
    for (idx row = 0; row < rows; ++row) {
      const T* normed = b.normed + (first + row) * 8 * H + u;
      const Vec<T> d = load(product(p, row, terms - 6 + k));
      bias += d;
      gain_x += d * load(normed, valid);
      gain_h += d * load(normed + 4 * H, valid);
    }
    if (b.dbias) store(b.dbias + u, bias, valid);
    store(b.dgain_x + u, gain_x, valid);
    store(b.dgain_h + u, gain_h, valid);
  }

  const T* c_before(const StepBackward<T>& at) const {
    if (resets(at.t, at.n)) return v.reset_c ? v.reset_c + b.place(at.n) * b.hidden : nullptr;
    return b.c + b.c_before(at.s, at.n) * b.hidden;
  }

  UNDERTOW_INLINE Step recall(const StepBackward<T>& at, idx p) const {
    const idx u = p * W, valid = panels.valid(p, 0), H = b.hidden;
    const T *gates = b.gates + at.row * 4 * H + u, *before = c_before(at);
    Step w;
    w.i = load(gates, valid), w.f = load(gates + H, valid), w.g = load(gates + 2 * H, valid);
    w.o = load(gates + 3 * H, valid);
    w.before = before ? load(before + u, valid) : Vec<T>{};
    w.c = w.f * w.before + w.i * w.g;
    w.dh = load(at.dh + u, valid);
    if (b.dy.data) w.dh += load(b.dy.at(at.t, at.n) + u, valid);
    w.keep_h = v.zoneout_h.data ? load(v.zoneout_h.at(at.t, at.n) + u, valid) : Vec<T>{};
    w.keep_c = v.zoneout_c.data ? load(v.zoneout_c.at(at.t, at.n) + u, valid) : Vec<T>{};
    return w;
  }

  void pass_over(const StepBackward<T>& at, idx p) const {
    const Step w = recall(at, p);
    const Vec<T> dc = load(at.dc + p * W), nothing[4] = {};
    for (idx term = 0; term < terms; ++term) store(product(p, at.place, term), Vec<T>{});
    for (idx k = 0; k < 4; ++k) {
      store(at.dgates + p * at.panel_stride + k * W, Vec<T>{});
      if (v.gain_x) store(at.dgates_x + p * at.panel_stride + k * W, Vec<T>{});
    }
    leave(at, p, w.dh, dc, nothing, w.dh, dc);
  }

  UNDERTOW_INLINE void plain_units(const StepBackward<T>& at, idx p) const {
    const Step w = recall(at, p);
    const Vec<T> tc = tanh<T>(w.c), d = w.dh * (T(1) - w.keep_h);
    Vec<T> dgates[4];
    gates(at, p, w, d * tc * w.o * (T(1) - w.o), d * w.o * (T(1) - tc * tc), dgates);
    for (idx k = 0; k < 4; ++k) store(at.dgates + p * at.panel_stride + k * W, dgates[k]);
  }

  // From do, and from what reaches c~ through tanh, to all gates and to c'.
  UNDERTOW_INLINE void gates(const StepBackward<T>& at, idx p, const Step& w, Vec<T> d_o, Vec<T> through_h,
                             Vec<T> (&d)[4]) const {
    const idx u = p * W, valid = panels.valid(p, 0), H = b.hidden;
    const Vec<T> arriving = load(at.dc + u);
    Vec<T> dc = arriving * (T(1) - w.keep_c) + through_h;
    if (v.peepholes) dc += d_o * load(v.peepholes + 2 * H + u, valid);
    d[0] = dc * (v.coupled ? w.g - w.before : w.g) * w.i * (T(1) - w.i);
    d[1] = v.coupled ? Vec<T>{} : dc * w.before * w.f * (T(1) - w.f);
    d[2] = dc * w.i * (T(1) - w.g * w.g);
    d[3] = d_o;
    Vec<T> back = arriving * w.keep_c + dc * w.f;
    if (v.peepholes) back += d[0] * load(v.peepholes + u, valid) + d[1] * load(v.peepholes + H + u, valid);
    if (b.dpeepholes) {
      store(product(p, at.place, 0), d[0] * w.before);
      store(product(p, at.place, 1), d[1] * w.before);
      store(product(p, at.place, 2), d_o * w.c);
    }
    leave(at, p, w.dh, dc, d, w.dh * w.keep_h, back);
  }

  UNDERTOW_INLINE void leave(const StepBackward<T>& at, idx p, Vec<T> dh, Vec<T> dc, const Vec<T> (&d)[4], Vec<T> keep_h,
                             Vec<T> back) const {
    const idx u = p * W, valid = panels.valid(p, 0), H = b.hidden;
    for (idx k = 0; b.dgates && k < 4; ++k) store(b.dgates + (at.row * 4 + k) * H + u, d[k], valid);
    if (b.dh) store(b.dh + at.row * H + u, dh, valid);
    if (b.dc) store(b.dc + at.row * H + u, dc, valid);
    store(at.kept + u, keep_h, valid);
    if (resets(at.t, at.n)) {
      T* to = b.dreset_c ? b.dreset_c + b.place(at.n) * H + u : nullptr;
      if (to) store(to, load(to, valid) + back, valid);
      back = Vec<T>{};
    }
    store(at.dc + u, back);
  }

  void normed_row(const StepBackward<T>& at) const {
    const idx H = b.hidden;
    T *units = at.room, *through = units + P * W;  // c~, then c^; the gradient of c^
    for (idx p = 0; p < P; ++p) store(units + p * W, recall(at, p).c);
    const Moments<T> of_cells = moments<T>(H, [&](auto&& see) {
      for (idx p = 0; p < P; ++p) see(load(units + p * W), panels.valid(p, 0));
    });
    Vec<T> sum = {}, with_units = {};
    for (idx p = 0; p < P; ++p) {
      const idx u = p * W, valid = panels.valid(p, 0);
      const Step w = recall(at, p);
      const Vec<T> unit = first<T>((load(units + u) - of_cells.mean) * of_cells.scale, valid);
      const Vec<T> gain = load(v.gain_c + u, valid), tc = tanh<T>(unit * gain + load(v.bias_c + u, valid));
      const Vec<T> d = w.dh * (T(1) - w.keep_h) * w.o * (T(1) - tc * tc);
      store(units + u, unit), store(through + u, d * gain);
      if (b.dgain_x) store(product(p, at.place, terms - 2), d * unit), store(product(p, at.place, terms - 1), d);
      // From memory, so that the sum and its terms are the same roundings: of one unit the mean leaves exactly zero.
      const Vec<T> dunit = load(through + u);
      sum += dunit, with_units += dunit * unit;
    }
    const T mean = sum_of<T>(sum) / T(H), mean_with = sum_of<T>(with_units) / T(H);
    Vec<T> sums[2] = {}, with_normed[2] = {};
    const T *gains[2] = {v.gain_x, v.gain_h}, *normed = b.normed + at.row * 8 * H;
    T* const to[2] = {at.dgates_x, at.dgates};
    for (idx p = 0; p < P; ++p) {
      const idx u = p * W, valid = panels.valid(p, 0);
      const Step w = recall(at, p);
      const Vec<T> unit = load(units + u), gain = load(v.gain_c + u, valid);
      const Vec<T> tc = tanh<T>(unit * gain + load(v.bias_c + u, valid));
      const Vec<T> dc = first<T>((load(through + u) - mean - unit * mean_with) * of_cells.scale, valid);
      Vec<T> d[4];
      gates(at, p, w, w.dh * (T(1) - w.keep_h) * tc * w.o * (T(1) - w.o), dc, d);
      for (idx k = 0; k < 4; ++k) {
        if (b.dgain_x) store(product(p, at.place, terms - 6 + k), d[k]);
        for (idx part = 0; part < 2; ++part) {
          const Vec<T> dn = d[k] * load(gains[part] + k * H + u, valid);
          store(to[part] + p * at.panel_stride + k * W, dn);
          sums[part] += dn, with_normed[part] += dn * load(normed + (part * 4 + k) * H + u, valid);
        }
      }
    }
    for (idx part = 0; part < 2; ++part) {
      const T all = sum_of<T>(sums[part]) / T(4 * H), all_with = sum_of<T>(with_normed[part]) / T(4 * H);
      for (idx p = 0; p < P; ++p)
        for (idx k = 0; k < 4; ++k) {
          const idx valid = panels.valid(p, 0);
          T* d = to[part] + p * at.panel_stride + k * W;
          const Vec<T> unit = load(normed + (part * 4 + k) * H + p * W, valid);
          store(d, first<T>((load(d) - all - unit * all_with) * b.scale[2 * at.row + part], valid));
        }
    }
  }
};

}  // namespace
}  // namespace undertow
