// The gradient shown: where it starts, and its computation in pieces. captions.js describes it.
"use strict";

// Where the chosen gradient starts, or why there is none.
function beginning(k) {
  const network = networks[k], layer = layerOf(k), { H } = layer, { kind, t } = at.from;
  const above = network.layers.slice(network.layers.indexOf(layer));
  if (kind === "unit") {
    if (layer.reverse || !layer.ownEquations) return { why: layer.whyNot };
    const one = new Float64Array(H);
    one[at.units[k]] = 1;
    return layer.state === "c" ? { t, layers: [layer], dc: one } : { t, layers: [layer], dh: one };
  }
  if (!network.entering) return { why: "backward was not called" };
  if (layer.whyNot) return { why: layer.whyNot };
  const from = network.onlyAtTheEnd ? T - 1 : t, width = above.at(-1).H;
  const dh = network.entering.subarray(from * width, (from + 1) * width);
  return { t: from, layers: above, dh, dc: from === T - 1 ? network.enteringC : null };
}

function follow() {
  running++;
  networks.forEach((_, k) => (at.from.kind === "loss" ? wholeLoss(k) : followOne(k, running)));
  drawCaption();
  drawMarks();
  if (at.order === "gradient") arrange();
}

// The trace's own gradient, of everything that enters at any step.
function wholeLoss(k) {
  const layer = layerOf(k), values = layer.values[`d${layer.state}`];
  flows[k] = values ? { values, norms: new Float64Array(T), top: 0, to: T - 1, from: 0 } : { why: "backward was not called" };
  for (let t = 0; values && t < T; t++) note(flows[k], t, values.subarray(t * layer.H, (t + 1) * layer.H));
  shown(k);
}

function note(flow, s, v) {
  flow.norms[s] = norm(v);
  for (const x of v) if (Math.abs(x) > flow.top) flow.top = Math.abs(x);
}

// Computes in pieces of BUDGET ms, so that the nearest steps appear at once and the page stays responsive.
function followOne(k, run) {
  const start = beginning(k);
  if (start.why) {
    flows[k] = { why: start.why };
    shown(k);
    return;
  }
  const flow = (flows[k] = emptyFlow(layerOf(k), start.t));
  const way = flowBack(start.layers, start.t, start.dh, start.dc, recorder(flow, layerOf(k)));
  const more = () => {
    if (run !== running) return;  // the reader has chosen another gradient
    const until = performance.now() + BUDGET / networks.length;
    while (!flow.done && performance.now() < until) flow.done = way.next().done;
    const draws = flow.done || performance.now() - flow.drawn > 250;
    if (draws) {
      shown(k);
      flow.drawn = performance.now();
    }
    if (flow.done) drawCursor();
    else if (draws) requestAnimationFrame(() => setTimeout(more));  // after this piece is on the screen
    else setTimeout(more);
  };
  more();
}

// A gradient that flows back from step t. It is known at the steps from..to.
function emptyFlow({ H, state }, t) {
  const nothing = (n) => new Float64Array(n).fill(NaN);
  const carousel = state === "c" ? nothing(T) : null;  // sizes along the cell alone
  return { values: nothing(T * H), norms: nothing(T), carousel, top: 0, from: t, to: t, drawn: -Infinity, done: false };
}

function recorder(flow, { H, values }) {
  let cell = null;
  return (s, whole) => {
    flow.values.set(whole, s * H);
    flow.from = s;
    note(flow, s, whole);
    if (!flow.carousel) return;
    cell = cell ? cell.map((x, j) => x * values.f[(s + 1) * H + j]) : whole.slice();
    flow.carousel[s] = norm(cell);
  };
}

// The unit of sizes: the largest size for the whole loss, otherwise the size at the start.
function one(flow) {
  return (at.from.kind === "loss" ? Math.max(...flow.norms) : flow.norms[flow.to]) || 1;
}

// Draws the heat map and the curves of the steps known so far.
function shown(k) {
  drawFlowMap(k);
  const flow = flows[k], t = [], size = [], carousel = [], unit = flow.norms ? one(flow) : 1;
  for (let s = flow.from; s <= flow.to; s++) {
    t.push(s);
    size.push(flow.norms[s] / unit || NaN);
    carousel.push(flow.carousel ? flow.carousel[s] / unit || NaN : NaN);
  }
  model(`${k}-norm-source`).data = curve(t, size);
  model(`${k}-norm-carousel-source`).data = curve(t, carousel);
  let low = 1, high = 1;
  for (const each of flows.filter((f) => f?.norms)) {
    const its = one(each);
    for (const x of each.norms) if (x > 0) [low, high] = [Math.min(low, x / its), Math.max(high, x / its)];
  }
  model("norm").y_range.setv({ start: Math.min(Math.max(low, 1e-12), 0.1) / 4, end: high * 3 });
}

// A line through all points, broken at NaN. A point without neighbours becomes a dot.
function curve(x, y) {
  const there = (s) => Number.isFinite(y[s]);
  return { x, y, dot: y.map((_, s) => (there(s) && !there(s - 1) && !there(s + 1) ? 5 : 0)) };
}
