// What the reader does, and what follows from it. State in `at`; every change ends in one of the draw functions.
"use strict";

const ROW = 36, DECADES = 6, BUDGET = 24; // pixels; decades of colour; ms at a time
const THEMES = {
  light: { gate: ["#f3f4f3", "#a9cbd9", "#2f7ea6", "#0b2f4a"], both: ["#0b4f8a", "#6fa8d6", "#f3f4f3", "#f0a36b", "#b34700"],
    error: ["#fdfcfa", "#ffd78a", "#ee6c4d"], lines: ["#0072b2", "#c2570c", "#0a7d5f"], ink: "#1f2933", quiet: "#66717c", card: "#f5f3ee", rule: "#dcd9d2" },
  dark: { gate: ["#171f27", "#1f5674", "#57b0cf", "#eaf8fc"], both: ["#8fd0ff", "#2a76b0", "#171f27", "#b3602a", "#ffc48a"],
    error: ["#11171d", "#7d5316", "#d9482b"], lines: ["#5cb8ee", "#f0a04b", "#4cc9a4"], ink: "#e6eaee", quiet: "#97a3af", card: "#1a222b", rule: "#2d3843" },
};
const ORDERS = {
  number: "number", alike: "like beside like", follows: "what they follow", memory: "longest memory first",
  activity: "most active first", gradient: "most gradient first", cursor: "value at the cursor",
};

const data = JSON.parse(document.getElementById("undertow-data").textContent);
const [LEFT, RIGHT, BELOW] = data.borders;
const networks = data.networks.map(unpackNetwork), T = data.T, inputs = unpack(data.inputs);
const at = { t: 0, network: 0, layer: 0, units: networks.map(() => 0), from: { kind: "loss", t: T - 1 }, order: "alike", query: "" };
const rows = [], flows = [];  // of each network: the units shown, from top to bottom; what flows back
const onlyAtTheEnd = networks.every((network) => network.onlyAtTheEnd);
const $ = (id) => document.getElementById(id);
let doc, theme, clicked, running = 0;

const layerOf = (k) => networks[k].layers[Math.min(at.layer, networks[k].layers.length - 1)];
const model = (name) => doc.get_model_by_name(name);
const time = () => model("time");
const stepName = (t) => (data.steps[t] === String(t) ? `step ${t}` : data.symbols ? `step ${t}` : `step ${t} · ${data.steps[t]}`);

// ---------------------------------------------------------------- colours

function blend(stops, n = 256) {
  const rgb = stops.map((s) => [1, 3, 5].map((k) => parseInt(s.slice(k, k + 2), 16)));
  return Array.from({ length: n }, (_, k) => {
    const x = (k / (n - 1)) * (stops.length - 1), a = Math.min(Math.floor(x), stops.length - 2);
    const mix = rgb[a].map((c, d) => Math.round(c + (rgb[a + 1][d] - c) * (x - a)));
    return "#" + mix.map((c) => c.toString(16).padStart(2, "0")).join("");
  });
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  theme = THEMES[name];
  theme.errors ??= blend(theme.error);
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
  for (const plot of plots()) {
    for (const axis of plot.below.concat(plot.left).filter((m) => m.major_label_text_color !== undefined)) {
      axis.major_label_text_color = axis.axis_label_text_color = theme.quiet;
    }
    for (const grid of plot.center.filter((m) => m.grid_line_color !== undefined)) grid.grid_line_color = theme.rule;
    const mapper = model(`${plot.name}-mapper`);
    if (mapper) plot.setv({ background_fill_color: theme.card, background_fill_alpha: 1 });
    if (mapper) mapper.palette = blend("ifo".includes(plot.name.split("-")[1]) ? theme.gate : theme.both);
  }
  networks.forEach((_, k) => {
    for (const line of ["norm", "norm-carousel", "error"]) paint(`${k}-${line}-line`, "line_color", theme.lines[k % 3]);
  });
  for (let k = 0; k < data.inputNames.length; k++) paint(`input-${k}`, "line_color", theme.ink);
  for (const row of [0, 1]) paint(`symbols-${row}-text`, "text_color", theme.ink);
  drawErrors();
}

function paint(name, property, color) {
  const renderer = model(name);
  if (renderer) renderer.glyph[property] = color;
}

const plots = () => [...document.querySelectorAll(".panel")].map((panel) => model(panel.dataset.figure)).filter(Boolean);

const errors = () => networks[at.network].error ?? networks[0].error;
const topError = () => Math.max(...networks.flatMap((n) => (n.error ? [...n.error] : [])));

// Characters and the curve below them, by E_t of the network in view.
function drawErrors() {
  const error = errors();
  if (!error) return;
  const top = topError(), color = (t) => theme.errors[Math.round(255 * Math.min(1, error[t] / top))];
  const source = model(`symbols-${data.targets ? 1 : 0}-source`);
  if (source) source.data = { ...plain(source), color: Array.from({ length: T }, (_, t) => color(t)) };
  for (const span of $("text")?.children ?? []) {
    if (span.dataset.t !== undefined && (data.targets || span.dataset.t >= 0)) span.style.background = color(+span.dataset.t);
  }
}

function plain(source) {
  return Object.fromEntries(source.data instanceof Map ? source.data : Object.entries(source.data));
}

// ---------------------------------------------------------------- units: order and search

const follows = (layer, j, rank = 0) => layer.followed.names[layer.followed.match[j]?.[rank]];

function sortKeys(k) {
  const layer = layerOf(k), { H } = layer, v = layer.values, mean = (f) => {
    const sums = new Float64Array(H);
    for (let t = 0, a = 0; t < T; t++) for (let j = 0; j < H; j++, a++) sums[j] += f(a);
    return sums;
  };
  const state = v[layer.state];
  if (at.order === "memory" && v.f) return mean((a) => -v.f[a]);
  if (at.order === "memory" || at.order === "activity") {
    const level = mean((a) => state[a] / T), square = mean((a) => (state[a] * state[a]) / T);
    return square.map((s, j) => level[j] ** 2 - s);
  }
  if (at.order === "gradient") return mean((a) => -Math.abs(flows[k]?.values?.[a] || 0));
  if (at.order === "cursor") return Array.from({ length: H }, (_, j) => -state[at.t * H + j]);
  if (at.order === "alike") return layer.alike.reduce((keys, j, place) => ((keys[j] = place), keys), []);
  if (at.order === "follows") {
    const { match, r } = layer.followed;
    return match.map((best, j) => (best.length ? best[0] + (1 - Math.abs(r[j][0])) / 2 : 0));
  }
  return Array.from({ length: H }, (_, j) => j);
}

// Which of the things it follows is the one searched for: 0 the best match, -1 none.
function found(layer, j) {
  const query = at.query.trim().toLowerCase();
  return layer.followed.match[j].findIndex((f) => layer.followed.names[f].toLowerCase().includes(query));
}

function arrange() {
  const query = at.query.trim().toLowerCase();
  networks.forEach((_, k) => {
    const layer = layerOf(k), keys = sortKeys(k);
    const wanted = (j) => !query || String(j) === query || found(layer, j) >= 0;
    rows[k] = Array.from({ length: layer.H }, (_, j) => j).filter(wanted).sort((a, b) => keys[a] - keys[b] || a - b);
    const units = model(`${k}-units`), n = Math.max(1, rows[k].length);
    units.setv({ start: -0.5, end: n - 0.5 });
    $(`${k}-shown`).textContent = `${rows[k].length === layer.H ? "all" : rows[k].length + " of"} ${layer.H} units, ${ORDERS[at.order]}`;
    for (const name of ["c", "h", "f", "i", "o", "g"]) if (layer.values[name]) drawMap(k, name);
    drawFlowMap(k);
  });
  drawUnits();
  drawMarks();
}

// ---------------------------------------------------------------- heat maps

function drawMap(k, name) {
  const layer = layerOf(k), values = layer.values[name];
  let low = 0, high = 1;
  if (!"ifo".includes(name)) {
    high = name === "c" ? most(values) : 1;
    low = -high;
  }
  image(`${k}-${name}`, k, values, low, high, (x) => x);
  $(`${k}-${name}-ends`).textContent = low ? (name === "c" ? `± ${number(high, 2)} (99 %)` : "± 1") : "0 to 1";
}

// What 99 % of values stay within, of a sample: a few far-off ones would leave the others without colour.
function most(values) {
  const step = Math.max(1, Math.floor(values.length / 50000)), sizes = [];
  for (let a = 0; a < values.length; a += step) sizes.push(Math.abs(values[a]));
  return sizes.sort((a, b) => a - b)[Math.floor(0.99 * (sizes.length - 1))] || 1;
}

// Sign and size on a logarithmic scale: 1 for the largest, 0 below 10^-DECADES of it.
function drawFlowMap(k) {
  const flow = flows[k];
  const top = flow?.top || 0, scale = 1 / (Math.LN10 * DECADES);
  image(`${k}-flow`, k, flow?.values, -1, 1, (x) => (x ? Math.sign(x) * Math.max(0, 1 + Math.log(Math.abs(x) / top) * scale) : x), flow?.from, flow?.to);
  $(`${k}-flow-ends`).textContent = top ? `± ${number(top, 2)}` : "";
}

// The steps from..to of ``values`` [T,H] as a picture, a row for each unit shown; nothing at the other steps.
function image(name, k, values, low, high, colored, from = 0, to = T - 1) {
  const source = model(`${name}-source`), { H } = layerOf(k), n = rows[k].length;
  const array = plain(source).image[0].constructor, pixels = new array(n && values ? n * T : 1, n && values ? [n, T] : [1, 1]);
  if (!n || !values || to - from < T - 1) pixels.fill(NaN);
  if (n && values) rows[k].forEach((j, row) => {
    for (let t = from, p = (n - 1 - row) * T + from, a = from * H + j; t <= to; t++, p++, a += H) pixels[p] = colored(values[a]);
  });
  model(`${name}-mapper`).setv({ low, high });
  source.data = { image: [pixels], x: [-0.5], y: [-0.5], dw: [T], dh: [Math.max(1, n)] };
}

// ---------------------------------------------------------------- the gradient

// Where to begin for what was asked, or why it cannot be.
function beginning(k) {
  const network = networks[k], layer = layerOf(k), { H } = layer, { kind, t } = at.from;
  const above = network.layers.slice(network.layers.indexOf(layer));
  if (kind === "unit") {
    if (layer.name.endsWith("reverse")) return { why: layer.whyNot };
    const one = new Float64Array(H);
    one[at.units[k]] = 1;
    return layer.state === "c" ? { t, layers: [layer], dc: one } : { t, layers: [layer], dh: one };
  }
  if (!network.entering) return { why: "backward was not called" };
  if (layer.whyNot) return { why: layer.whyNot };
  const from = network.onlyAtTheEnd ? T - 1 : t, width = above.at(-1).H;
  return { t: from, layers: above, dh: network.entering.subarray(from * width, (from + 1) * width), dc: from === T - 1 ? network.enteringC : null };
}

function follow() {
  running++;
  networks.forEach((_, k) => (at.from.kind === "loss" ? wholeLoss(k) : followOne(k, running)));
  drawCaption();
  drawMarks();
  if (at.order === "gradient") arrange();
}

// As the trace has it: everything that enters at any step, at once.
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

// In pieces of BUDGET ms, so that what is near is seen at once and the page stays quick.
function followOne(k, run) {
  const start = beginning(k), layer = layerOf(k), { H } = layer;
  if (start.why) {
    flows[k] = { why: start.why };
    shown(k);
    return;
  }
  const flow = (flows[k] = { values: new Float64Array(T * H).fill(NaN), norms: new Float64Array(T).fill(NaN), top: 0, to: start.t, from: start.t });
  let cell = null;
  if (layer.state === "c") flow.carousel = new Float64Array(T).fill(NaN);
  const way = flowBack(start.layers, start.t, start.dh, start.dc, (s, whole) => {
    flow.values.set(whole, s * H);
    note(flow, s, whole);
    flow.from = s;
    if (!flow.carousel) return;
    cell = cell ? cell.map((x, j) => x * layer.values.f[(s + 1) * H + j]) : whole.slice();
    flow.carousel[s] = norm(cell);
  });
  const more = () => {
    if (run !== running) return;
    const until = performance.now() + BUDGET / networks.length;
    let done = false;
    while (!done && performance.now() < until) done = way.next().done;
    if (done || performance.now() - (flow.drawn || 0) > 250) {
      shown(k);
      flow.drawn = performance.now();
    }
    flow.done = done;
    if (done) drawCursor();
    else setTimeout(more);
  };
  more();
}

function shown(k) {
  drawFlowMap(k);
  const flow = flows[k], t = [], size = [], carousel = [];
  const whole = at.from.kind === "loss", one = whole ? Math.max(...(flow.norms || [1])) || 1 : flow.norms?.[flow.to] || 1;
  for (let s = flow.from; s <= flow.to; s++) {
    t.push(s);
    size.push(flow.norms[s] / one || NaN);
    carousel.push(flow.carousel ? flow.carousel[s] / one || NaN : NaN);
  }
  model(`${k}-norm-source`).data = { x: t, y: size };
  model(`${k}-norm-carousel-source`).data = flow.carousel ? { x: t, y: carousel } : { x: [], y: [] };
  const all = flows.filter((f) => f?.norms).flatMap((f) => {
    const top = whole ? Math.max(...f.norms) || 1 : f.norms[f.to] || 1;
    return [...f.norms].filter((x) => x > 0).map((x) => x / top);
  });
  const low = Math.max(1e-12, all.reduce((a, b) => Math.min(a, b), 1)), high = all.reduce((a, b) => Math.max(a, b), 1);
  model("norm").y_range.setv({ start: Math.min(low, 0.1) / 4, end: high * 3 });
}

function drawCaption() {
  const { kind, t } = at.from, main = layerOf(0), s = main.state, all = [...new Set(networks.map((_, k) => layerOf(k).state))].join(" or ");
  const only = onlyAtTheEnd, E = networks[0].error ? "E<sub>t</sub>" : "E", d = (a, b) => `∂${a}/∂${b}`;
  const way = `back-propagation through the whole state${s === "c" ? " (h, c)" : ""}, the true derivative`;
  const text = {
    loss: `${d("E", `${s}<sub>s</sub>`)} at every step s: how the whole loss depends on the ${s === "c" ? "cell" : "hidden state"} there, by ${way}. Click on any step, or press Enter, to follow one error back.`,
    error: only
      ? `${d("E", `${s}<sub>s</sub>`)} for every step s: how the error at the end depends on the ${s === "c" ? "cell" : "hidden state"} there, by ${way}. This loss sees only the last step; from any other, follow a <b>chosen unit</b>.`
      : `${d(E, `${s}<sub>s</sub>`)} for every s ≤ t = <b>${t}</b>: how ${networks[0].error ? "the error made at" : "the part of the loss that enters at"} ${escaped(stepName(t))} depends on the ${s === "c" ? "cell" : "hidden state"} before, by ${way}.`,
    unit: `${d(`${s}<sub>t</sub>[${at.units[0]}]`, `${s}<sub>s</sub>`)} for every s ≤ t = <b>${t}</b>: how unit ${at.units[0]}${networks.length > 1 ? ` (${networks.slice(1).map((n, k) => `${escaped(n.name)}: ${at.units[k + 1]}`).join(", ")})` : ""} at ${escaped(stepName(t))} depends on every unit before, by ${way}.`,
  }[kind];
  const not = networks.map((n, k) => flows[k]?.why && `Not for the ${escaped(n.name)}, ${escaped(layerOf(k).name)}: ${escaped(flows[k].why)}.`).filter(Boolean);
  $("flow-caption").innerHTML = [text, ...not].join(" ");
  $("norm-name").innerHTML = `‖∂${kind === "unit" ? `${s}<sub>t</sub>` : kind === "error" && !only ? E : "E"}/∂${all}<sub>s</sub>‖`;
  $("norm-scale").textContent = kind === "loss" ? "of the largest" : `of that at ${only && kind === "error" ? "the end" : "t"}`;
  networks.forEach((_, k) => ($(`${k}-flow-name`).innerHTML = `∂${kind === "unit" ? `${layerOf(k).state}<sub>t</sub>` : kind === "error" && !only ? E : "E"}/∂${layerOf(k).state}<sub>s</sub>`));
  $("from-error").textContent = only ? "error at the end" : "error at step";
  $("cell-alone").hidden = kind === "loss" || layerOf(0).state === "h";
  for (const which of ["loss", "error", "unit"]) $(`from-${which}`).setAttribute("aria-pressed", which === kind);
}

// ---------------------------------------------------------------- cursor and marks

function drawMarks() {
  const { start, end } = time(), panels = document.querySelectorAll(".panel");
  for (const panel of panels) {
    const width = panel.clientWidth - LEFT - RIGHT, x = (t) => LEFT + ((t - 0.5 - start) / (end - start)) * width;
    const step = width / (end - start), height = panel.clientHeight - 4 - (panel.querySelector(".mark").dataset.below | 0);
    const [cursor, from, unit] = panel.querySelectorAll(".mark");
    place(cursor, x(at.t), Math.max(1, step), height, at.t + 0.5 > start && at.t - 0.5 < end);
    const flowing = at.from.kind !== "loss" && (panel.dataset.figure === "norm" || panel.dataset.figure.endsWith("flow"));
    const origin = Math.max(...flows.map((f) => f?.to ?? 0));
    place(from, x(origin) + step / 2, 0, height, flowing && origin > start && origin < end);
    if (!unit) continue;
    const k = parseInt(panel.dataset.figure), row = rows[k].indexOf(at.units[k]), units = model(`${k}-units`);
    const down = (units.end - (rows[k].length - 1 - row)) / (units.end - units.start);
    unit.style.display = row >= 0 && down > 0 && down < 1 ? "block" : "none";
    unit.style.top = `${2 + down * height}px`;
  }
}

function place(mark, x, width, height, visible) {
  mark.style.display = visible ? "block" : "none";
  mark.style.transform = `translateX(${x}px)`;
  mark.style.width = `${width}px`;
  mark.style.height = `${height}px`;
}

function moveTo(t, follow = true) {
  at.t = Math.max(0, Math.min(T - 1, Math.round(t)));
  const { start, end } = time(), span = end - start;
  if (follow && (at.t < start || at.t > end)) {
    const from = Math.max(-0.5, Math.min(T - 0.5 - span, at.t - span / 2));
    time().setv({ start: from, end: from + span });
  }
  if (at.order === "cursor") arrange();
  drawCursor();
}

function drawCursor() {
  drawMarks();
  drawStep();
  drawUnit();
  drawUnits();
  for (const span of document.querySelectorAll("#text .here, #text .from")) span.className = "";
  $("text")?.querySelector(`[data-t="${at.t}"]`)?.classList.add("here");
  if (at.from.kind === "error") $("text")?.querySelector(`[data-t="${at.from.t}"]`)?.classList.add("from");
}

function drawStep() {
  const { t } = at, lines = [];
  if (data.symbols) lines.push(["reads", escaped(seen(data.symbols[t]))]);
  if (data.targets) lines.push(["next", escaped(seen(data.targets[t]))]);
  networks.forEach((network) => {
    if (network.error) lines.push([`error, ${escaped(network.name)}`, `${number(network.error[t])} ${escaped(data.errorUnit)}`]);
  });
  networks.forEach((network, k) => {
    const norms = flows[k]?.norms;
    if (norms) lines.push([`‖gradient‖, ${escaped(network.name)}`, number(norms[t], 3)]);
  });
  let html = `<h2>${escaped(stepName(t))} <span class="value">of ${T}</span></h2><table>${table(lines)}</table>`;
  if (inputs) {
    const C = data.inputNames.length;
    html += `<div class="inputs"><table>${table(data.inputNames.map((name, c) => [escaped(name), number(inputs[t * C + c], data.half ? 4 : 6)]))}</table></div>`;
  }
  $("step-card").innerHTML = html;
}

const table = (lines) => lines.map(([name, value]) => `<tr><th scope="row">${name}</th><td class="number">${value}</td></tr>`).join("");

function value(k, name, t, j) {
  const layer = layerOf(k);
  const values = name === "flow" ? flows[k]?.values : layer.values[name];
  return values ? values[t * layer.H + j] : NaN;
}

function drawUnit() {
  const k = at.network, j = at.units[k], layer = layerOf(k), digits = data.half ? 4 : 7, { match, r, names } = layer.followed;
  const best = match[j].map((f, rank) => `<tr><th scope="row">${escaped(names[f])}</th><td class="number">r = ${short(r[j][rank])}</td></tr>`);
  const numbers = ["c", "h", "f", "i", "o", "g"].filter((name) => layer.values[name]).map((name) => [`${name}<sub>t</sub>`, number(value(k, name, at.t, j), digits)]);
  const gradient = [[`gradient by ${layer.state}<sub>t</sub>`, number(value(k, "flow", at.t, j), digits)]];
  $("unit-card").innerHTML = `<h2 class="n${k}">Unit ${j} <span class="value">${escaped(networks[k].name)}${networks[k].layers.length > 1 ? ", " + escaped(layer.name) : ""}</span></h2>
    <div class="pairs"><table>${table(numbers.slice(0, numbers.length / 2))}</table><table>${table(numbers.slice(numbers.length / 2))}</table></div>
    <table>${table(gradient)}</table><p class="caption small">its ${layer.state} follows (correlation over this one sequence: a hint, no proof)</p><table>${best.join("")}</table>`;
}

// Only the rows in view: there may be thousands.
function drawUnits() {
  const k = at.network, layer = layerOf(k), list = $("units"), columns = layer.state === "c" ? ["c", "h", "f", "i", "o", "g"] : ["h"];
  $("units-head").className = `row head${columns.length === 1 ? " plain" : ""}`;
  $("units-head").innerHTML = `<span>unit</span>${columns.map((c) => `<span>${c}</span>`).join("")}`;
  $("units-space").style.height = `${rows[k].length * ROW}px`;
  const first = Math.floor(list.scrollTop / ROW), last = Math.min(rows[k].length, first + Math.ceil(list.clientHeight / ROW) + 1);
  const lines = [];
  for (let row = first; row < last; row++) {
    const j = rows[k][row], rank = Math.max(0, found(layer, j)), name = follows(layer, j, rank);
    const numbers = columns.map((c) => `<span>${short(value(k, c, at.t, j))}</span>`).join("");
    lines.push(`<div class="row${j === at.units[k] ? " chosen" : ""}${columns.length === 1 ? " plain" : ""}" role="option" aria-selected="${j === at.units[k]}" data-unit="${j}" style="top:${row * ROW}px"><span>${j}</span>${numbers}<em>${name ? `${escaped(name)} (r = ${short(layer.followed.r[j][rank])})` : ""}</em></div>`);
  }
  $("units-space").innerHTML = lines.join("");
}

function choose(j, k = at.network) {
  const changed = k !== at.network;
  at.network = k;
  at.units[k] = j;
  if (changed) {
    drawNetworks();
    drawErrors();
  }
  const row = rows[k].indexOf(j), list = $("units");
  if (row * ROW < list.scrollTop || (row + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = Math.max(0, (row - 2) * ROW);
  drawCursor();
}

function drawNetworks() {
  $("networks").hidden = networks.length < 2;
  $("networks").innerHTML = networks.map((n, k) => `<button data-network="${k}" aria-pressed="${k === at.network}">${escaped(n.name)}</button>`).join("");
}

// ---------------------------------------------------------------- what the reader does

const unitAt = (k, y) => rows[k][rows[k].length - 1 - Math.round(y)];

// Called by the figures, with the pointer in their own units.
window.undertow = {
  point(name, x) {
    if (x > -0.5 && x < T - 0.5 && Math.round(x) !== at.t) moveTo(x, false);
  },
  click(name, x, y) {
    const k = parseInt(name);
    clicked = [name, Math.round(x), Math.round(y)].join();
    moveTo(x, false);
    if (!Number.isNaN(k) && unitAt(k, y) !== undefined) choose(unitAt(k, y), k);
    from(at.from.kind === "unit" ? "unit" : "error", at.t);
  },
  again(name, x, y) {  // a second click soon after: at another place it is just a click
    if (clicked === [name, Math.round(x), Math.round(y)].join()) showAll();
    else this.click(name, x, y);
  },
  at, networks, flows, rows, value,
};

function from(kind, t = at.t) {
  if (kind === "loss" && onlyAtTheEnd) kind = "error";  // the same, but for the dotted line
  at.from = { kind, t };
  follow();
  drawCursor();
}

function zoom(factor) {
  const { start, end } = time(), span = Math.min(T, Math.max(Math.min(T, 6), (end - start) * factor));
  const left = Math.max(-0.5, Math.min(T - 0.5 - span, at.t - (at.t - start) * (span / (end - start))));
  time().setv({ start: left, end: left + span });
}

function showAll() {
  time().setv({ start: -0.5, end: T - 0.5 });
  networks.forEach((_, k) => model(`${k}-units`).setv({ start: -0.5, end: Math.max(1, rows[k].length) - 0.5 }));
}

function setLayer(k) {
  at.layer = k;
  $("layer").value = k;
  at.units = at.units.map((j, n) => Math.min(j, layerOf(n).H - 1));
  follow();
  arrange();
  drawCursor();
}

function move(rowsDown) {
  const k = at.network, row = rows[k].indexOf(at.units[k]) + rowsDown;
  if (rows[k][row] !== undefined) choose(rows[k][row]);
}

function next(select) {
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

const KEYS = {
  ArrowLeft: (e) => moveTo(at.t - (e.shiftKey ? 10 : 1)), ArrowRight: (e) => moveTo(at.t + (e.shiftKey ? 10 : 1)),
  ArrowUp: () => move(-1), ArrowDown: () => move(1), Enter: () => from(at.from.kind === "unit" ? "unit" : "error"),
  Home: () => moveTo(0), End: () => moveTo(T - 1), Escape: () => from("loss"), u: () => from("unit"),
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "−": () => zoom(2), 0: showAll,
  "/": () => $("search").focus(), s: () => next($("order")), l: () => next($("layer")), d: () => $("theme").click(),
  n: () => choose(at.units[(at.network + 1) % networks.length], (at.network + 1) % networks.length), "?": () => $("keys").showModal(),
};

function listen() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, select"), pressing = event.target.matches?.("button") && ["Enter", " "].includes(event.key);
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || pressing || $("keys").open || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key](event);
  });
  $("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  $("help").onclick = () => $("keys").showModal();
  $("in").onclick = () => zoom(0.5);
  $("out").onclick = () => zoom(2);
  $("all").onclick = showAll;
  for (const which of ["loss", "error", "unit"]) $(`from-${which}`).onclick = () => from(which);
  $("layer").onchange = (event) => setLayer(+event.target.value);
  $("order").onchange = (event) => { at.order = event.target.value; arrange(); };
  $("search").oninput = (event) => { at.query = event.target.value; arrange(); };
  $("units").onscroll = drawUnits;
  $("units").onclick = (event) => { const row = event.target.closest("[data-unit]"); if (row) choose(+row.dataset.unit); };
  $("networks").onclick = (event) => { const k = event.target.dataset.network; if (k !== undefined) choose(at.units[k], +k); };
  $("text")?.addEventListener("click", (event) => {
    const t = event.target.dataset.t;
    if (t !== undefined && t >= 0) { moveTo(+t); from(at.from.kind === "unit" ? "unit" : "error"); }
  });
  new ResizeObserver(drawMarks).observe($("stack"));
  time().change.connect(() => { drawMarks(); legible(); });
  networks.forEach((_, k) => model(`${k}-units`).change.connect(drawMarks));
}

// Symbols are drawn only where each has room.
function legible() {
  const { start, end } = time(), room = ($("stack").clientWidth - LEFT - RIGHT) / (end - start);
  for (const row of [0, 1]) { const text = model(`symbols-${row}-text`); if (text) text.visible = room > 7; }
}

function fillText() {
  if (!data.symbols) return;
  const follow = data.targets ?? data.symbols, spans = follow.map((s, t) => `<span data-t="${t}">${s === "\n" ? "↵ " : escaped(s)}</span>`);
  $("text").innerHTML = (data.targets ? `<span>${data.symbols[0] === "\n" ? "↵ " : escaped(data.symbols[0])}</span>` : "") + spans.join("");
  if (errors()) { $("error-low").textContent = 0; $("error-high").textContent = `${number(topError(), 2)} ${data.errorUnit}`; }
}

// One stop for the Tab key, #stack, where Bokeh would have one for each picture.
function passOver(root) {
  for (const element of root.querySelectorAll("*")) {
    if (element.hasAttribute("tabindex")) element.tabIndex = -1;
    if (element.shadowRoot) passOver(element.shadowRoot);
  }
}

// The unit that follows something most clearly.
function clearest(r) {
  return r.reduce((best, each, j) => (Math.abs(each[0]) > Math.abs(r[best][0]) ? j : best), 0);
}

function begin() {
  for (const panel of document.querySelectorAll(".panel")) {
    passOver(panel);
    const map = /^\d+-/.test(panel.dataset.figure), below = panel === [...document.querySelectorAll(".panel")].at(-1) ? BELOW : 0;
    panel.insertAdjacentHTML("beforeend", `<div class="mark cursor" data-below="${below}"></div><div class="mark start"></div>${map ? '<div class="mark unit"></div>' : ""}`);
  }
  $("order").innerHTML = Object.entries(ORDERS).map(([key, name]) => `<option value="${key}">${name}</option>`).join("");
  $("order").value = at.order;
  const most = networks.reduce((a, b) => (b.layers.length > a.layers.length ? b : a)).layers;
  $("layer").innerHTML = most.map((layer, k) => `<option value="${k}">${escaped(layer.name)}</option>`).join("");
  $("layer-choice").hidden = most.length < 2;
  at.layer = most.length - 1;
  at.units = networks.map((_, k) => clearest(layerOf(k).followed.r));
  $("layer").value = at.layer;
  $("precision").textContent = data.half ? "Values in float16: 3 significant digits; gradients by step are of that precision too." : "Values in float32, as they were.";
  const error = networks[0].error, sure = Math.floor(T * 0.6);
  if (error) {
    at.t = sure + error.slice(sure).indexOf(Math.max(...error.slice(sure)));
    at.from = { kind: "error", t: at.t };
    model("error").y_range.setv({ start: -0.07 * topError(), end: topError() * 1.07 });
    networks.forEach((n, k) => n.error && (model(`${k}-error-source`).data = { x: [...n.error.keys()], y: [...n.error] }));
  } else at.t = T - 1;
  if (onlyAtTheEnd) at.from = { kind: "error", t: T - 1 };
  $("from-loss").hidden = onlyAtTheEnd;
  fillText();
  drawNetworks();
  networks.forEach((_, k) => (rows[k] = [...layerOf(k).alike]));
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (e) => setTheme(e.matches ? "dark" : "light"));
  follow();
  arrange();
  drawCursor();
  listen();
  legible();
  document.documentElement.dataset.ready = "yes";
}

(function whenDrawn() {
  doc = window.Bokeh?.documents[0];
  if (doc && document.querySelectorAll(".panel > *:not(.name)").length) requestAnimationFrame(begin);
  else requestAnimationFrame(whenDrawn);
})();
