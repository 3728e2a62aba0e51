// Where the gradient goes, step by step back from any step: what undertow.flow computes, in the reader's browser.
// Exact, by products with vectors; no matrix is formed. 4H² multiplications a step and layer, in float64.
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

// One layer on the way back. `dh` and `dc` hold what has come from the step after.
class LayerBack {
  constructor(layer) {
    this.layer = layer;
    this.dh = new Float64Array(layer.H);
    this.dc = new Float64Array(layer.H);
    this.dgates = new Float64Array((layer.state === "c" ? 4 : 1) * layer.H);
    this.whole = new Float64Array(layer.H);  // ∂/∂c_s, through h_s too; of a plain RNN ∂/∂h_s
  }

  // Through step s, with `dy` given to h_s from outside.
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

  // What the layer below gets at the same step.
  below() {
    const dx = new Float64Array(this.layer.weightIH.length / this.dgates.length);
    addTransposed(this.layer.weightIH, this.dgates, dx);
    return dx;
  }
}

// From step t back to the first, in pieces: yields s after each step.
// `layers` from the one shown up to the top, where `dh` and `dc` [H] begin. `record` takes ∂/∂(state of the one
// shown) at every s. Float64 ends at 1e-308: what is smaller is 0.
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
