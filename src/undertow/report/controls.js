// Reacts to pointer, keys and buttons, and starts the page.
"use strict";

const unitAt = (k, y) => rows[k][rows[k].length - 1 - Math.round(y)];

// The figures call these, with the pointer in the coordinates of the data.
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
  again(name, x, y) {  // a second click soon after; at another place it is an ordinary click
    if (clicked === [name, Math.round(x), Math.round(y)].join()) setTimeout(showAll);  // after Bokeh has undone its last zoom
    else this.click(name, x, y);
  },
  at, networks, flows, rows, value,
};

function from(kind, t = at.t) {
  if (kind === "loss" && onlyAtTheEnd) kind = "error";  // the same except for the dotted line
  at.from = { kind, t: kind === "error" && endsAlone ? T - 1 : t };
  follow();
  drawCursor();
}

function zoom(factor) {
  const { start, end } = time(), span = Math.min(T, Math.max(Math.min(T, 6), (end - start) * factor));
  const left = Math.max(-0.5, Math.min(T - 0.5 - span, at.t - (at.t - start) * (span / (end - start))));
  time().setv({ start: left, end: left + span });
}

// Moves the view by some windows along the sequence.
function shift(windows) {
  const { start, end } = time(), span = end - start, left = Math.max(-0.5, Math.min(T - 0.5 - span, start + windows * span));
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

// Leaves a field: Enter keeps the search, Escape drops it. Some browsers empty the field without an event.
function leave(field, empty) {
  field.blur();
  if (!empty || field !== $("search")) return;
  field.value = at.query = "";
  arrange();
}

const KEYS = {
  ArrowLeft: (e) => moveTo(at.t - (e.shiftKey ? 10 : 1)), ArrowRight: (e) => moveTo(at.t + (e.shiftKey ? 10 : 1)),
  ArrowUp: () => move(-1), ArrowDown: () => move(1), Enter: () => from(at.from.kind === "unit" ? "unit" : "error"),
  PageUp: () => shift(-0.5), PageDown: () => shift(0.5), Home: () => moveTo(0), End: () => moveTo(T - 1), Escape: () => from("loss"), u: () => from("unit"),
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "−": () => zoom(2), 0: showAll,
  "/": () => $("search").focus(), s: () => next($("order")), l: () => next($("layer")), d: () => $("theme").click(),
  n: () => choose(at.units[(at.network + 1) % networks.length], (at.network + 1) % networks.length), "?": () => $("keys").showModal(),
};

function listen() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, select"), pressing = event.target.matches?.("button") && ["Enter", " "].includes(event.key);
    if (typing && ["Escape", "Enter"].includes(event.key)) leave(event.target, event.key === "Escape");
    if (typing || pressing || $("keys").open || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key](event);
  });
  $("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  $("fold").onclick = () => {
    const folded = $("reading").classList.toggle("folded");
    $("fold").textContent = folded ? "Show values" : "Hide values";
    $("fold").setAttribute("aria-expanded", !folded);
  };
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
  new ResizeObserver(() => { drawMarks(); legible(); }).observe($("stack"));
  time().change.connect(() => { drawMarks(); legible(); });
  networks.forEach((_, k) => model(`${k}-units`).change.connect(drawMarks));
}

// Draws symbols only if each has room, and as many names of steps as fit.
function legible() {
  const { start, end } = time(), width = $("stack").clientWidth - LEFT - RIGHT, room = width / (end - start);
  for (const row of [0, 1]) { const text = model(`symbols-${row}-text`); if (text) text.visible = room > 7; }
  const longest = Math.max(...data.steps.map((name) => pen.measureText(name).width)), least = (longest + 16) / room, ticks = [];
  const every = data.steps[0] === "0" ? apart(least) : Math.ceil(least);
  for (let t = Math.ceil(Math.max(0, start) / every) * every; t <= Math.min(T - 1, end); t += every) {
    const x = (t - start) * room;
    if (x > longest / 2 - LEFT && x < width + RIGHT - longest / 2) ticks.push(t);
  }
  if (model("steps").ticks.join() !== ticks.join()) model("steps").ticks = ticks;
}

// The next round number of steps: 1, 2, 5, 10 ...
function apart(least) {
  const ten = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((k) => k * ten).find((steps) => steps >= least) ?? 1;
}

// Each symbol stands for the step whose error it determines: the step before, if the next symbol is predicted.
function fillText() {
  if (!data.symbols) return;
  const drawn = (s) => (s === "\n" ? "↵ " : escaped(s)), shown = data.predictsNext ? data.targets : data.symbols;
  const spans = shown.map((s, t) => `<span data-t="${t}">${drawn(s)}</span>`);
  $("text").innerHTML = (data.predictsNext ? `<span>${drawn(data.symbols[0])}</span>` : "") + spans.join("");
  $("text").classList.toggle("words", data.symbols.some((s) => [...s].length > 1));
  if (errors()) { $("error-low").textContent = 0; $("error-high").textContent = `${number(topError(), 2)} ${data.errorUnit}`; }
}

// One stop for the Tab key, #stack. Bokeh would have a stop for each figure.
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
    const marks = ["cursor", "start"];
    if (/^\d+-/.test(panel.dataset.figure)) marks.push("unit");
    for (const mark of marks) panel.insertAdjacentHTML("beforeend", `<div class="mark ${mark}"></div>`);
  }
  $("order").innerHTML = Object.entries(ORDERS).map(([key, name]) => `<option value="${key}">${name}</option>`).join("");
  $("order").value = at.order;
  const most = networks.reduce((a, b) => (b.layers.length > a.layers.length ? b : a)).layers;
  $("layer").innerHTML = most.map((layer, k) => `<option value="${k}">${escaped(layer.name)}</option>`).join("");
  $("layer-choice").hidden = most.length < 2;
  at.layer = most.length - 1;
  at.units = networks.map((_, k) => clearest(layerOf(k).followed.r));
  $("layer").value = at.layer;
  $("precision").textContent = data.half
    ? "Values are kept in float16, 3 significant digits; gradients followed back are made from those."
    : "Values in float32, as they were.";
  const error = networks[0].error, sure = Math.floor(T * 0.6);
  const worst = error ? [largest(error, sure), largest(error)].find((t) => t >= 0) : undefined;
  at.t = worst ?? T - 1;
  const followed = networks.every((_, k) => !layerOf(k).whyNot);
  if (followed && (onlyAtTheEnd || worst !== undefined)) at.from = { kind: "error", t: endsAlone ? T - 1 : at.t };
  if (error) {
    model("error").y_range.setv({ start: -0.07 * topError(), end: topError() * 1.07 });
    networks.forEach((n, k) => n.error && (model(`${k}-error-source`).data = curve([...n.error.keys()], [...n.error])));
  }
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
  if (doc && plots().every((plot) => plot.outer_width)) begin();  // Bokeh has laid them all out
  else requestAnimationFrame(whenDrawn);
})();
