// docs/live.html: the network reads what is typed; its gates, states and guesses are drawn.
"use strict";

const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent), { hidden: H, padded, symbols } = facts;
const V = symbols.length, MOST = 2100, GHOST = 48, BARS = 10;
const NAMES = ["i", "f", "g", "o", "c", "h"], SIGNED = { g: 1, c: 1, h: 1 };
const numberOf = new Map(symbols.map((symbol, k) => [symbol, k]));
const AS = { "’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": ".", "\t": " " };
const SHOWN = { " ": "␣", "\n": "↵" };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// What the network has read: symbols, where they stand in the text, values [T][H] and guesses [T][V] after each.
const read = { T: 0, symbols: [], places: [], unknown: new Map(), guesses: new Float32Array(MOST * V) };
for (const name of NAMES) read[name] = new Float32Array(MOST * H);
let memory, net, first; // first: what it guesses before any character
let order = Array.from({ length: H }, (_, k) => k), unit = null, hover = null, ghost = "", writing = 0, theme;

const view = (at, n) => new Float32Array(memory.buffer, at, n);

async function load() {
  const packed = Uint8Array.from(atob(facts.wasm), (c) => c.charCodeAt(0));
  const bytes = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const { instance } = await WebAssembly.instantiate(bytes, { env: {}, wasi_snapshot_preview1: {} });
  net = instance.exports;
  memory = net.memory;
  net.start();
}

// Takes the state after t characters back; after none the initial one.
function goTo(t) {
  net.start();
  if (!t) return;
  view(net.hidden(), H).set(read.h.subarray((t - 1) * H, t * H));
  view(net.cell(), H).set(read.c.subarray((t - 1) * H, t * H));
}

function keep(t) {
  const gates = view(net.gates(), 4 * padded);
  for (let v = 0; v < 4; v++) read[NAMES[v]].set(gates.subarray(v * padded, v * padded + H), t * H);
  read.c.set(view(net.cell(), H), t * H);
  read.h.set(view(net.hidden(), H), t * H);
  read.guesses.set(view(net.output(), V), t * V);
}

// Reads a text from where it differs from the last one.
function readText(text) {
  const found = [], places = [], unknown = new Map();
  for (let k = 0; k < text.length; k++) {
    const number = numberOf.get(AS[text[k]] ?? text[k]);
    if (number === undefined) unknown.set(k, text[k]);
    else found.push(number), places.push(k);
  }
  let t = 0;
  while (t < found.length && t < read.T && found[t] === read.symbols[t]) t++;
  goTo(t);
  for (; t < found.length; t++) {
    net.take(found[t]);
    keep(t);
  }
  Object.assign(read, { T: found.length, symbols: found, places, unknown });
}

const guessesAfter = (t) => (t ? read.guesses.subarray((t - 1) * V, t * V) : first);

function likeliest(guesses) {
  let top = 0;
  for (let k = 1; k < V; k++) if (guesses[k] > guesses[top]) top = k;
  return top;
}

// A symbol drawn from guesses^(1 / boldness); the likeliest for 0.
function drawn(guesses, boldness, random = Math.random) {
  if (!boldness) return likeliest(guesses);
  const weights = Array.from(guesses, (p) => p ** (1 / boldness));
  let rest = random() * weights.reduce((a, b) => a + b, 0), k = 0;
  while (k < V - 1 && (rest -= weights[k]) > 0) k++;
  return k;
}

// Random numbers that are the same for the same text.
function seeded(text) {
  let state = 1;
  for (const letter of text) state = Math.imul(state ^ letter.charCodeAt(0), 0x01000193);
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5 | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
}

// How the network may go on, to the end of a line or a word.
function imagine() {
  goTo(read.T);
  const random = seeded($("text").value), boldness = +$("boldness").value;
  let guesses = guessesAfter(read.T), text = "";
  while (text.length < GHOST || !/[\s]$/.test(text)) {
    const next = drawn(guesses, boldness, random);
    text += symbols[next];
    if (text.length > 2 && symbols[next] === "\n" || text.length > GHOST + 12) break;
    net.take(next);
    guesses = view(net.output(), V).slice();
  }
  return text.replace(/\s+$/, "") || text;
}

// ---- drawing ----

function blend(stops) {
  const rgb = stops.map((s) => [1, 3, 5].map((k) => parseInt(s.slice(k, k + 2), 16)));
  return Array.from({ length: 256 }, (_, k) => {
    const x = (k / 255) * (stops.length - 1), a = Math.min(Math.floor(x), stops.length - 2);
    return rgb[a].map((c, d) => Math.round(c + (rgb[a + 1][d] - c) * (x - a)));
  });
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  const style = getComputedStyle(document.documentElement), colour = (key) => style.getPropertyValue(`--${key}`).trim();
  const stops = (key) => blend(colour(`${key}-stops`).split(/\s*,\s*/));
  theme = { gate: stops("gate"), both: stops("both"), error: stops("error"), ink: colour("ink"), quiet: colour("quiet"), card: colour("card"), line: colour("n0") };
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
}

// c is drawn as tanh(c), as the output gate finds it.
const drawnAs = (name, value) => (name === "c" ? Math.tanh(value) : value);
const colourOf = (name, value) => {
  const part = SIGNED[name] ? 0.5 + 0.5 * drawnAs(name, value) : value;
  return theme[SIGNED[name] ? "both" : "gate"][Math.max(0, Math.min(255, Math.round(255 * part)))];
};

const strips = [...document.querySelectorAll("figure")].map((figure) => ({
  name: figure.dataset.name, canvas: figure.querySelector("canvas"), small: document.createElement("canvas"), bars: new Float32Array(H),
}));
const size = () => (innerWidth > 900 ? { cell: 9, row: 2, side: 72, foot: 18 } : { cell: 8, row: 1.5, side: 56, foot: 18 });

function drawStrip(strip) {
  const { name, canvas, small, bars } = strip, { cell, row, side, foot } = size(), ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = H * row + foot, columns = Math.max(1, Math.floor((width - side) / cell));
  Object.assign(strip, { columns, from: Math.max(0, read.T - columns) });
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.fillStyle = theme.card;
  context.fillRect(0, 0, columns * cell, H * row);
  const shown = Math.min(columns, read.T);
  if (shown) {
    small.width = shown;
    small.height = H;
    const image = new ImageData(shown, H);
    for (let t = 0; t < shown; t++)
      for (let k = 0; k < H; k++) {
        const at = 4 * (k * shown + t), faint = unit === null || order[k] === unit ? 255 : 120;
        image.data.set(colourOf(name, read[name][(strip.from + t) * H + order[k]]), at);
        image.data[at + 3] = faint;
      }
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, shown * cell, H * row);
  }
  drawLetters(context, strip, shown, cell, H * row + 13);
  drawBars(context, name, bars, columns * cell + 10, side - 12, row);
  context.strokeStyle = theme.ink;
  context.lineWidth = 1;
  if (unit !== null) {
    const y = order.indexOf(unit) * row;
    context.strokeRect(-1, y - 1, width + 2, row + 2);
  }
  const t = step() - strip.from;
  if (hover && t >= 0 && t < shown) context.strokeRect(t * cell, 0.5, cell, H * row - 1);
}

function drawLetters(context, strip, shown, cell, y) {
  context.font = '11px ui-monospace, "DejaVu Sans Mono", monospace';
  context.textAlign = "center";
  for (let t = 0; t < shown; t++) {
    const symbol = symbols[read.symbols[strip.from + t]];
    context.fillStyle = SHOWN[symbol] ? theme.quiet : theme.ink;
    context.fillText(SHOWN[symbol] ?? symbol, (t + 0.5) * cell, y);
  }
}

function drawBars(context, name, bars, left, width, row) {
  const zero = SIGNED[name] ? left + width / 2 : left, most = SIGNED[name] ? width / 2 : width;
  context.fillStyle = theme.card;
  context.fillRect(left, 0, width, H * row);
  for (let k = 0; k < H; k++) {
    const value = bars[order[k]];
    context.fillStyle = unit === null || order[k] === unit ? theme.line : theme.quiet;
    context.fillRect(Math.min(zero, zero + value * most), k * row, Math.max(0.5, Math.abs(value * most)), Math.max(1, row - 0.5));
  }
}

// The step that is read: the one under the pointer, else the last.
const step = () => (hover === null ? read.T - 1 : Math.min(hover, read.T - 1));

// Moves the bars towards the values of the step; tells whether they still move.
function move() {
  const t = step();
  let far = 0;
  for (const { name, bars } of strips)
    for (let k = 0; k < H; k++) {
      const apart = (t < 0 ? 0 : drawnAs(name, read[name][t * H + k])) - bars[k];
      bars[k] += calm.matches || Math.abs(apart) < 0.004 ? apart : 0.3 * apart;
      far = Math.max(far, calm.matches ? 0 : Math.abs(apart));
    }
  return far >= 0.004;
}

function drawStrips() {
  const moving = move();
  strips.forEach(drawStrip);
  say();
  if (moving) soon();
}

let asked = false;
function soon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawStrips();
  });
}

function say() {
  const t = step();
  if (t < 0) return ($("reading").textContent = "Nothing is read yet.");
  const name = symbols[read.symbols[t]], letter = `“${SHOWN[name] ?? name}”`;
  const about = `Bars on the right: ${hover === null ? "now, " : ""}after character ${t + 1}, ${letter}. `;
  const of = (key) => `${key} ${read[key][t * H + unit].toFixed(2).replace("-", "−")}`;
  $("reading").textContent = about + (unit === null
    ? "Point at a picture to read a step, click to follow one unit through the text."
    : `Unit ${unit + 1}: ${NAMES.map(of).join(", ")}. The text is coloured by its c. Click it again to follow none.`);
}

const rgb = (c) => `rgb(${c.join(" ")})`;

function drawText() {
  const text = $("text").value, mirror = $("mirror");
  const tops = unit === null ? 0 : Math.max(0.2, ...read.places.map((_, t) => Math.abs(read.c[t * H + unit])));
  const pieces = document.createDocumentFragment();
  const add = (content, name, colour) => {
    const span = document.createElement("span");
    span.textContent = content;
    if (name) span.className = name;
    if (colour) span.style.backgroundColor = colour;
    pieces.append(span);
  };
  let t = 0;
  for (let k = 0; k < text.length; k++) {
    if (read.unknown.has(k)) add(text[k], "unknown");
    else {
      const p = guessesAfter(t)[read.symbols[t]], surprise = Math.min(1, -Math.log2(p) / 12);
      add(text[k], "", rgb(unit === null ? theme.error[Math.round(surprise * 150)] : theme.both[Math.round(127.5 + 75 * read.c[t * H + unit] / tops)]));
      t++;
    }
  }
  if (ghost) add(ghost, "ghost");
  add("\u200b");
  mirror.replaceChildren(pieces);
  const legend = unit === null ? ["error", "expected", "surprising to the network"] : ["both middle", `unit ${unit + 1}: c −`, "+"];
  $("colouring").innerHTML = `${legend[1]} <i class="bar ${legend[0]}"></i> ${legend[2]} · grey: how it may go on, → takes a word`;
}

function drawGuesses() {
  const guesses = guessesAfter(hover === null ? read.T : step() + 1);
  const best = Array.from(guesses.keys()).sort((a, b) => guesses[b] - guesses[a]).slice(0, BARS);
  const rows = [...$("bars").children];
  best.forEach((k, place) => {
    const [button, track, share] = rows[place].children;
    button.textContent = SHOWN[symbols[k]] ?? symbols[k];
    button.dataset.symbol = symbols[k];
    button.setAttribute("aria-label", `add ${{ " ": "a space", "\n": "a new line" }[symbols[k]] ?? symbols[k]}`);
    track.firstChild.style.width = `${100 * guesses[k]}%`;
    share.textContent = `${(100 * guesses[k]).toFixed(guesses[k] < 0.0995 ? 1 : 0)} %`;
  });
  $("after").textContent = hover === null ? "What comes next" : `What it expected after character ${step() + 1}`;
}

function note() {
  const unknown = [...new Set(read.unknown.values())];
  let bits = 0;
  for (let t = 0; t < read.T; t++) bits -= Math.log2(guessesAfter(t)[read.symbols[t]]);
  const said = unknown.length ? `It has never seen ${unknown.slice(0, 6).join(" ")} and skips it.` : "";
  $("note").textContent = said || (read.T > 1 ? `${(bits / read.T).toFixed(2)} bits a character: the lower, the better it guessed.` : "");
}

function update() {
  hover = null;
  readText($("text").value);
  ghost = writing || $("text").value.length > 1900 ? "" : imagine();
  drawText();
  drawGuesses();
  note();
  soon();
}

// ---- what a visitor does ----

function put(text) {
  const area = $("text");
  area.value = (area.value + text).slice(-area.maxLength);
  area.setSelectionRange(area.value.length, area.value.length);
  update();
}

function stop() {
  clearInterval(writing);
  writing = 0;
  $("write").textContent = "Write on";
}

function writeOn() {
  if (writing) {
    stop();
    return update();
  }
  $("write").textContent = "Stop";
  writing = setInterval(() => {
    if ($("text").value.length >= $("text").maxLength - 1) return stop(), update();
    put(symbols[drawn(guessesAfter(read.T), +$("boldness").value)]);
  }, 90);
}

function choose(next) {
  unit = next === unit ? null : next;
  $("unit").value = unit === null ? "" : String(unit);
  drawText();
  soon();
}

function listen() {
  $("text").addEventListener("input", () => {
    stop();
    update();
  });
  $("text").addEventListener("keydown", (event) => {
    const area = $("text"), end = area.selectionStart === area.value.length && area.selectionEnd === area.value.length;
    if (event.key !== "ArrowRight" || !end || !ghost || event.shiftKey) return;
    event.preventDefault();
    put(ghost.match(/^\s*\S+|^\s+/)[0]);
  });
  $("write").addEventListener("click", writeOn);
  $("boldness").addEventListener("input", () => writing || update());
  $("clear").addEventListener("click", () => {
    stop();
    $("text").value = "";
    update();
    $("text").focus();
  });
  $("bars").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) stop(), put(button.dataset.symbol);
  });
  $("unit").addEventListener("change", () => choose($("unit").value === "" ? unit : +$("unit").value));
  $("theme").addEventListener("click", () => {
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    drawText();
    soon();
  });
  $("strips").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key], at = order.indexOf(unit);
    if (by) choose(order[unit === null ? 0 : Math.max(0, Math.min(H - 1, at + by))] ?? null);
    else if (event.key === "Escape" && unit !== null) choose(unit);
    else return;
    event.preventDefault();
  });
  for (const strip of strips) {
    const { canvas } = strip;
    const at = (event) => {
      const box = canvas.getBoundingClientRect(), { cell, row } = size();
      return [strip.from + Math.floor((event.clientX - box.left) / cell), Math.floor((event.clientY - box.top) / row)];
    };
    canvas.addEventListener("pointermove", (event) => {
      const [t] = at(event);
      hover = t >= 0 && t < read.T && t < strip.from + strip.columns ? t : null;
      drawGuesses();
      soon();
    });
    canvas.addEventListener("pointerleave", () => {
      hover = null;
      drawGuesses();
      soon();
    });
    canvas.addEventListener("click", (event) => {
      const [, k] = at(event);
      if (k >= 0 && k < H) choose(order[k]);
    });
  }
  addEventListener("resize", soon);
}

async function start() {
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  await load();
  first = new Float32Array(V).fill(1 / V);
  if (numberOf.has("\n")) { // a text begins as a line does
    net.take(numberOf.get("\n"));
    first = view(net.output(), V).slice();
  }
  for (let k = 0; k < BARS; k++) $("bars").insertAdjacentHTML("beforeend", "<li><button></button><div class=track><i></i></div><span></span></li>");
  for (let k = 0; k < H; k++) $("unit").add(new Option(k + 1, k));
  readText(facts.sample);
  const kept = order.map((k) => {
    let sum = 0;
    for (let t = 0; t < read.T; t++) sum += read.f[t * H + k];
    return sum;
  });
  order.sort((a, b) => kept[b] - kept[a]);
  $("text").value = facts.opening;
  listen();
  update();
  document.documentElement.dataset.ready = "";
}

start();
