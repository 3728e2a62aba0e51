// Colours in light and dark, for Bokeh's figures and for the text.
"use strict";

// The colours of the present theme, from page.css and the palette.
function themeOf(style) {
  const color = (name) => style.getPropertyValue(`--${name}`).trim(), stops = (name) => color(`${name}-stops`).split(/\s*,\s*/);
  return {
    gate: stops("gate"), both: stops("both"), errors: blend(stops("error")), lines: ["n0", "n1", "n2"].map(color),
    ink: color("ink"), quiet: color("quiet"), card: color("card"), rule: color("rule"),
  };
}

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
  theme = themeOf(getComputedStyle(document.documentElement));
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

// The step of the largest error from ``first`` on; -1 if there is none. Steps without a target have NaN.
function largest(error, first = 0) {
  let top = -1;
  for (let t = first; t < error.length; t++) if (Number.isFinite(error[t]) && !(error[t] <= error[top])) top = t;
  return top;
}

// Colours characters, and draws the curve below them, by E_t of the network shown.
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
