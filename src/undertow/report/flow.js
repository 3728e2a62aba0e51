// Computes the gradient back from any step, in the reader's browser, as undertow.flow does.
// It is exact, and uses products with vectors only: 4H² multiplications per step and layer, in float64.
"use strict";

// out += Aᵀ v, A [rows, out.length]
function addTransposed(A, v, out) {
  const n = out.length;
  for (let r = 0; r < v.length; r++) {
    const x = v[r];
    if (x === 0) continue;
    for (let k = 0, a = r * n; k < n; k++, a++) out[k] += x * A[a];
  }
}

// One layer. `dh` and `dc` hold the gradients that come from the step after.
class LayerBack {
  constructor(layer) {
    this.layer = layer;
    this.dh = new Float64Array(layer.H);
    this.dc = new Float64Array(layer.H);
    this.dgates = new Float64Array((layer.state === "c" ? 4 : 1) * layer.H);
    this.whole = new Float64Array(layer.H);  // ∂/∂c_s, including the path through h_s; of a plain RNN ∂/∂h_s
  }

  // Goes back through step s; `dy` enters at h_s from outside.
  through(s, dy) {
    const { layer, dh, dc, dgates, whole } = this, { H } = layer, v = layer.values, at = s * H;
    if (dy) for (let j = 0; j < H; j++) dh[j] += dy[j];
    if (layer.state === "h") {
      for (let j = 0; j < H; j++) {
        whole[j] = dh[j];
        dgates[j] = dh[j] * (1 - v.h[at + j] ** 2);
      }
    } else {
      for (let j = 0; j < H; j++) {
        const i = v.i[at + j], f = v.f[at + j], g = v.g[at + j], o = v.o[at + j];
        const before = s ? v.c[at - H + j] : layer.c0[j], squashed = Math.tanh(v.c[at + j]);
        const c = (whole[j] = dc[j] + dh[j] * o * (1 - squashed * squashed));
        dgates[j] = c * g * i * (1 - i);
        dgates[H + j] = c * before * f * (1 - f);
        dgates[2 * H + j] = c * i * (1 - g * g);
        dgates[3 * H + j] = dh[j] * squashed * o * (1 - o);
        dc[j] = c * f;
      }
    }
    dh.fill(0);
    addTransposed(layer.weightHH, dgates, dh);
  }

  // The gradient for the layer below, at the same step.
  below() {
    const dx = new Float64Array(this.layer.weightIH.length / this.dgates.length);
    addTransposed(this.layer.weightIH, this.dgates, dx);
    return dx;
  }
}

// Goes back from step t to the first, and yields s after each step.
// `layers` are those from the one shown to the top, where `dh` and `dc` [H] start. `record` takes ∂/∂(state of the one
// shown) at every s. Numbers below 1e-308, where float64 ends, are 0.
function* flowBack(layers, t, dh, dc, record) {
  const backs = layers.map((layer) => new LayerBack(layer)), top = backs.at(-1);
  if (dc) top.dc.set(dc);
  for (let s = t; s >= 0; s--) {
    let dy = s === t ? dh : null;
    for (let k = backs.length - 1; k >= 0; k--) {
      backs[k].through(s, dy);
      if (k) dy = backs[k].below();
    }
    record(s, backs[0].whole);
    yield s;
  }
}

function norm(v) {
  let sum = 0;
  for (const x of v) sum += x * x;
  return Math.sqrt(sum);
}
