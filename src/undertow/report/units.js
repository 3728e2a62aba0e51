// The list of units: order, search, and values at the step under the cursor.
"use strict";

const ORDERS = {
  number: "number", alike: "by similarity", follows: "what they follow", memory: "longest memory first",
  activity: "most active first", gradient: "most gradient first", cursor: "value at the cursor",
};

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

// The place of the feature searched for among those that a unit follows: 0 is the best match, -1 none.
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
    $(`${k}-layer`).textContent = layer.name;
    $(`${k}-shown`).textContent = `${rows[k].length === layer.H ? "all" : rows[k].length + " of"} ${layer.H} units, ${ORDERS[at.order]}`;
    for (const name of ["c", "h", "f", "i", "o", "g"]) if (layer.values[name]) drawMap(k, name);
    drawFlowMap(k);
  });
  drawUnits();
  drawMarks();
}

function value(k, name, t, j) {
  const layer = layerOf(k);
  const values = name === "flow" ? flows[k]?.values : layer.values[name];
  return values ? values[t * layer.H + j] : NaN;
}

const columnsOf = (layer) => ["c", "h", "f", "i", "o", "g"].filter((name) => layer.values[name]);

function drawUnit() {
  const k = at.network, j = at.units[k], layer = layerOf(k), { match, r, names } = layer.followed;
  const numbers = columnsOf(layer).map((name) => [sub(name, "t"), exact(value(k, name, at.t, j))]);
  const half = numbers.length >> 1, gradient = exact(value(k, "flow", at.t, j));
  $("unit-card").innerHTML = `<h2 class="n${k}">Unit ${j} <span class="value">${escaped(fullName(k))}</span></h2>
    <div class="pairs"><table>${table(numbers.slice(0, half))}</table><table>${table(numbers.slice(half))}</table></div>
    <table>${table([[`gradient by ${sub(layer.state, "t")}`, gradient]])}</table>
    <p class="caption small">its ${layer.state} follows <span class="hint">(correlation over this one sequence: a hint, no proof)</span></p>
    <table>${table(match[j].map((f, rank) => [escaped(names[f]), `r = ${short(r[j][rank])}`]))}</table>`;
}

// Draws only the rows in view: there may be thousands.
function drawUnits() {
  const k = at.network, columns = columnsOf(layerOf(k)), list = $("units");
  $("units-head").className = `row head${columns.length === 1 ? " plain" : ""}`;
  $("units-head").innerHTML = `<span>unit</span>${columns.map((name) => `<span>${name}</span>`).join("")}`;
  $("units-space").style.height = `${rows[k].length * ROW}px`;
  const first = Math.floor(list.scrollTop / ROW), room = Math.ceil(list.clientHeight / ROW) + 1;
  $("units-space").innerHTML = rows[k].slice(first, first + room).map((j, n) => unitRow(k, j, first + n)).join("");
}

function unitRow(k, j, row) {
  const layer = layerOf(k), columns = columnsOf(layer), chosen = j === at.units[k];
  const rank = Math.max(0, found(layer, j)), name = follows(layer, j, rank);
  const classes = `row${chosen ? " chosen" : ""}${columns.length === 1 ? " plain" : ""}`;
  const numbers = columns.map((column) => `<span>${short(value(k, column, at.t, j))}</span>`).join("");
  const followed = name ? `${escaped(name)} (r = ${short(layer.followed.r[j][rank])})` : "";
  return `<div class="${classes}" role="option" aria-selected="${chosen}" data-unit="${j}" style="top:${row * ROW}px">
    <span>${j}</span>${numbers}<em>${followed}</em></div>`;
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
  $("networks").innerHTML = networks.map((network, k) =>
    `<button data-network="${k}" aria-pressed="${k === at.network}">${escaped(network.name)}</button>`).join("");
}
