// What a variant (lstm.h) makes of the gates' sums, going forward: a sequence at a step, a panel of units at a time.
// With norms a row's sums wait until all its panels are there.
#pragma once
#include "scratch.h"
#include "split.h"
#include "moments.h"

namespace undertow {
namespace {

// One sequence at one step.
template <class T>
struct StepForward {
  idx t, n, row;     // row: of the tape
  idx next_t;        // of the step that follows, or -1
  T *c, *h, *factors;  // the state, before and then after it; where h goes for the next product
  T* y;
  T* sums;             // with norms: room for the sums of W x_t, of U h', for c~ and o
};

template <class T>
class VariedUnits {
 public:
  VariedUnits(const VariedForward<T>& f, idx padded)
      : f(f), v(f.variant), panels{f.cell, f.hidden}, padded(padded), hidden(f.batch * padded + f.threads * apart<T>),
        waiting(v.gain_x ? f.batch * row_size() + f.threads * apart<T> : 0) {}

  T* h_of(idx n, idx away) const { return hidden.get() + n * padded + away; }
  T* sums_of(idx n, idx away) const { return v.gain_x ? waiting.get() + n * row_size() + away : nullptr; }
  bool whole_rows() const { return v.gain_x; }

  void begin(idx n, T* c, T* h, T* factors) const {
    idx s = 0;
    while (s < f.steps && n >= f.active(s)) ++s;
    const bool fresh = s < f.steps && resets(f.time(s), n);
    const idx from = f.place(n) * f.hidden;
    const T *h_0 = fresh ? v.reset_h : f.h_0, *c_0 = fresh ? v.reset_c : f.c_0;
    copy(h, h_0 ? h_0 + from : nullptr, f.hidden);
    copy(c, c_0 ? c_0 + from : nullptr, f.hidden);
    for (idx k = f.hidden; k < padded; ++k) h[k] = c[k] = T(0);
    for (idx p = 0; p < panels.count(); ++p) store(factors + p * W, entering(n, p, load(h + p * W)));
  }

  // With norms, of one panel: 0, W x_t; 1, U h'.
  UNDERTOW_INLINE void keep_sums(const StepForward<T>& at, idx p, idx part, const Vec<T> (&sums)[4]) const {
    for (idx k = 0; k < 4; ++k) store(at.sums + (part * panels.count() + p) * width + k * W, sums[k]);
  }

  // Without: the sums of one panel are there.
  UNDERTOW_INLINE void units(const StepForward<T>& at, idx p, const Vec<T> (&sums)[4]) const {
    if (masked(at)) return pass_over(at, p);
    const Opened gates = open(at, p, sums);
    settle(at, p, gates.c, gates.o * tanh<T>(gates.c));
  }

  // With: those of all panels are there. bias [p][4][W]
  void normed_row(const StepForward<T>& at, const T* bias) const {
    const idx P = panels.count(), H = f.hidden;
    T* normed = f.normed ? f.normed + at.row * 8 * H : nullptr;
    if (masked(at)) {
      for (idx p = 0; p < P; ++p) pass_over(at, p);
      if (normed) copy(normed, static_cast<const T*>(nullptr), 8 * H);
      if (f.scale) f.scale[2 * at.row] = f.scale[2 * at.row + 1] = T(0);
      return;
    }
    T *cells = at.sums + 2 * P * width, *outputs = cells + P * W;
    const Moments<T> of_sums[2] = {moments_of(at.sums), moments_of(at.sums + P * width)};
    const T* gains[2] = {v.gain_x, v.gain_h};
    for (idx part = 0; f.scale && part < 2; ++part) f.scale[2 * at.row + part] = of_sums[part].scale;
    for (idx p = 0; p < P; ++p) {
      const idx u = p * W, valid = panels.valid(p, 0);
      Vec<T> pre[4];
      for (idx k = 0; k < 4; ++k) {
        pre[k] = load(bias + p * width + k * W);
        for (idx part = 0; part < 2; ++part) {
          const Vec<T> sum = load(at.sums + (part * P + p) * width + k * W);
          const Vec<T> unit = (sum - of_sums[part].mean) * of_sums[part].scale;
          if (normed) store(normed + (part * 4 + k) * H + u, unit, valid);
          pre[k] += unit * load(gains[part] + k * H + u, valid);
        }
      }
      const Opened gates = open(at, p, pre);
      store(cells + u, gates.c);
      store(outputs + u, gates.o);
    }
    const Moments<T> of_cells = moments<T>(f.hidden, [&](auto&& see) {
      for (idx p = 0; p < P; ++p) see(load(cells + p * W), panels.valid(p, 0));
    });
    for (idx p = 0; p < P; ++p) {
      const idx u = p * W, valid = panels.valid(p, 0);
      const Vec<T> c = load(cells + u), unit = (c - of_cells.mean) * of_cells.scale;
      settle(at, p, c, load(outputs + u) * tanh<T>(unit * load(v.gain_c + u, valid) + load(v.bias_c + u, valid)));
    }
  }

 private:
  static constexpr idx W = lanes<T>, width = Panels<T>::width;
  const VariedForward<T>& f;
  const Variant<T>& v;
  const Panels<T> panels;
  const idx padded;
  Scratch<T> hidden;   // [N][padded]: h itself, where the pass keeps h * recurrent
  Scratch<T> waiting;  // with norms, [N][P*10W]: both sums, c~, o

  struct Opened {
    Vec<T> o, c;  // o, c~
  };

  idx row_size() const { return panels.count() * (2 * width + 2 * W); }
  Moments<T> moments_of(const T* sums) const {
    return moments<T>(4 * f.hidden, [&](auto&& see) {
      for (idx p = 0; p < panels.count(); ++p)
        for (idx k = 0; k < 4; ++k) see(load(sums + p * width + k * W), panels.valid(p, 0));
    });
  }
  bool resets(idx t, idx n) const { return v.reset && v.reset[t * f.batch + f.place(n)]; }
  bool masked(const StepForward<T>& at) const { return v.mask && !v.mask[at.t * f.batch + f.place(at.n)]; }

  Vec<T> entering(idx n, idx p, Vec<T> h) const {
    return v.recurrent ? h * load(v.recurrent + f.place(n) * f.hidden + p * W, panels.valid(p, 0)) : h;
  }

  UNDERTOW_INLINE Opened open(const StepForward<T>& at, idx p, const Vec<T> (&pre)[4]) const {
    const idx u = p * W, valid = panels.valid(p, 0), H = f.hidden;
    const Vec<T> before = load(at.c + u);
    Vec<T> sees_i = {}, sees_f = {}, sees_o = {};
    if (v.peepholes) {
      sees_i = load(v.peepholes + u, valid) * before;
      sees_f = load(v.peepholes + H + u, valid) * before;
      sees_o = load(v.peepholes + 2 * H + u, valid);
    }
    const Vec<T> i = sigmoid<T>(pre[0] + sees_i), fg = v.coupled ? T(1) - i : sigmoid<T>(pre[1] + sees_f);
    const Vec<T> g = tanh<T>(pre[2]), c = fg * before + i * g, o = sigmoid<T>(pre[3] + sees_o * c);
    keep_gates(at, p, {i, fg, g, o});
    return {o, c};
  }

  UNDERTOW_INLINE void keep_gates(const StepForward<T>& at, idx p, const Vec<T> (&gates)[4]) const {
    if (!f.gates) return;
    T* to = f.gates + at.row * 4 * f.hidden + p * W;
    for (idx k = 0; k < 4; ++k) store(to + k * f.hidden, gates[k], panels.valid(p, 0));
  }

  void pass_over(const StepForward<T>& at, idx p) const {
    keep_gates(at, p, {});
    leave(at, p, load(at.c + p * W), load(at.h + p * W));
  }

  // c~ and h~, and what zoneout leaves of them.
  UNDERTOW_INLINE void settle(const StepForward<T>& at, idx p, Vec<T> c, Vec<T> h) const {
    const idx u = p * W, valid = panels.valid(p, 0);
    if (v.zoneout_c.data) {
      const Vec<T> z = load(v.zoneout_c.at(at.t, at.n) + u, valid);
      c = z * load(at.c + u) + (T(1) - z) * c;
    }
    if (v.zoneout_h.data) {
      const Vec<T> z = load(v.zoneout_h.at(at.t, at.n) + u, valid);
      h = z * load(at.h + u) + (T(1) - z) * h;
    }
    leave(at, p, c, h);
  }

  // c_t and h_t to whoever reads them, and to the next step what it starts from.
  UNDERTOW_INLINE void leave(const StepForward<T>& at, idx p, Vec<T> c, Vec<T> h) const {
    const idx u = p * W, valid = panels.valid(p, 0);
    store(at.y + u, h, valid);
    if (f.c) store(f.c + (f.batch + at.row) * f.hidden + u, c, valid);
    if (at.next_t >= 0 && resets(at.next_t, at.n)) {
      const idx from = f.place(at.n) * f.hidden + u;
      h = v.reset_h ? load(v.reset_h + from, valid) : Vec<T>{};
      c = v.reset_c ? load(v.reset_c + from, valid) : Vec<T>{};
    }
    store(at.c + u, c);
    store(at.h + u, h);
    store(at.factors + u, entering(at.n, p, h));
  }
};

}  // namespace
}  // namespace undertow
