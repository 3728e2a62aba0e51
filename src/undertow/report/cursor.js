// The cursor with its marks, and the values at its step.
"use strict";

function drawMarks() {
  const { start, end } = time(), panels = document.querySelectorAll(".panel");
  for (const panel of panels) {
    const { inner_width: width, inner_height: height } = model(panel.dataset.figure), x = (t) => LEFT + ((t - 0.5 - start) / (end - start)) * width;
    const step = width / (end - start);
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
  const { t } = at, lines = [], plainly = data.steps[t] === String(t);
  const date = plainly ? "" : `<span class="date">· ${escaped(data.steps[t])}</span>`;
  if (data.symbols) lines.push(["reads", escaped(seen(data.symbols[t]))]);
  if (data.targets) lines.push([data.predictsNext ? "next" : "wanted", escaped(seen(data.targets[t]))]);
  networks.forEach((network) => {
    if (network.error) lines.push([`error, ${escaped(network.name)}`, `${exact(network.error[t])} ${escaped(data.errorUnit)}`]);
  });
  networks.forEach((network, k) => {
    const norms = flows[k]?.norms;
    if (norms) lines.push([`‖gradient‖, ${escaped(network.name)}`, exact(norms[t])]);
  });
  let html = `<h2>step ${t} <span class="value">of ${T}</span> ${date}</h2><table>${table(lines)}</table>`;
  if (inputs) {
    const values = data.inputRows.map((row) => [escaped(row.name), inputValue(row, t)]);
    html += `<div class="inputs"><table>${table(values)}</table></div>`;
  }
  $("step-card").innerHTML = html;
}

const table = (lines) => lines.map(([name, value]) => `<tr><th scope="row">${name}</th><td class="number">${value}</td></tr>`).join("");

// The value of an input at step t: a number, or the word of a category.
function inputValue({ columns, words }, t) {
  const values = columns.map((c) => inputs[t * data.inputNames.length + c]);
  return words ? escaped(words[values.indexOf(1)] ?? "–") : exact(values[0]);
}
