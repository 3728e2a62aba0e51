// Colours in light and dark, for Bokeh's pictures as for the text.
"use strict";

const THEMES = {
  light: {
    gate: ["#f3f4f3", "#a9cbd9", "#2f7ea6", "#0b2f4a"], both: ["#0b4f8a", "#6fa8d6", "#f3f4f3", "#f0a36b", "#b34700"],
    error: ["#fdfcfa", "#ffd78a", "#ee6c4d"], lines: ["#0072b2", "#c2570c", "#0a7d5f"],
    ink: "#1f2933", quiet: "#66717c", card: "#f5f3ee", rule: "#dcd9d2",
  },
  dark: {
    gate: ["#171f27", "#1f5674", "#57b0cf", "#eaf8fc"], both: ["#8fd0ff", "#2a76b0", "#171f27", "#b3602a", "#ffc48a"],
    error: ["#11171d", "#7d5316", "#d9482b"], lines: ["#5cb8ee", "#f0a04b", "#4cc9a4"],
    ink: "#e6eaee", quiet: "#97a3af", card: "#1a222b", rule: "#2d3843",
  },
};

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
    for (const curve of ["norm", "norm-carousel", "error"]) {
      paint(`${k}-${curve}-line`, "line_color", theme.lines[k % 3]);
      paint(`${k}-${curve}-dots`, "fill_color", theme.lines[k % 3]);
    }
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
const topError = () => Math.max(0, ...networks.map((n) => n.error?.[largest(n.error)] ?? 0)) || 1;

// The step of the largest error from ``first`` on, -1 where there is none: it is NaN where nothing is asked.
function largest(error, first = 0) {
  let top = -1;
  for (let t = first; t < error.length; t++) if (Number.isFinite(error[t]) && !(error[t] <= error[top])) top = t;
  return top;
}

// Characters and the curve below them, by E_t of the network in view.
function drawErrors() {
  const error = errors();
  if (!error) return;
  const top = topError(), color = (t) => theme.errors[Math.round(255 * Math.min(1, error[t] / top))] ?? "#00000000";
  const source = model(`symbols-${data.targets ? 1 : 0}-source`);
  if (source) source.data = { ...plain(source), color: Array.from({ length: T }, (_, t) => color(t)) };
  for (const span of $("text")?.children ?? []) {
    if (span.dataset.t !== undefined) span.style.background = color(+span.dataset.t);
  }
}

function plain(source) {
  return Object.fromEntries(source.data instanceof Map ? source.data : Object.entries(source.data));
}
