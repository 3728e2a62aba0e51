// Describes the gradient shown in an equation and a sentence. Both say which of the three gradients it is.
"use strict";

const WORDS = { c: "cell", h: "hidden state" };
const sub = (name, index) => `${name}<sub>${index}</sub>`;

// The numerator of the derivative: E_t, E or a unit's state, in a network whose layer carries ``state``.
function numerator(state) {
  const { kind } = at.from;
  if (kind === "unit") return sub(state, "t");
  return kind === "error" && !onlyAtTheEnd && networks[0].error ? sub("E", "t") : "E";
}

function sentence() {
  const { kind, t } = at.from, { state } = layerOf(0), [first, ...others] = at.units;
  const whole = state === "c" ? "the whole state (h, c)" : "the whole state", until = `for every s ≤ t = <b>${t}</b>`;
  const way = `by back-propagation through ${whole}, the true derivative.`;
  if (kind === "unit") {
    const names = others.map((j, k) => `${escaped(networks[k + 1].name)}: ${j}`).join(", ");
    return `${until}: how unit ${first}${names && ` (${names})`} depends on every unit at earlier steps, ${way}`;
  }
  if (kind === "loss") {
    return `at every step s: how the whole loss depends on the ${WORDS[state]} there, ${way}
      Click on any step, or press Enter, to follow one error back.`;
  }
  if (onlyAtTheEnd) {
    return `for every step s: how the error at the end depends on the ${WORDS[state]} there, ${way}
      This loss depends only on the last step. To start at another step, follow a <b>chosen unit</b>.`;
  }
  const what = networks[0].error ? "the error made" : "the part of the loss that enters";
  return `${until}: how ${what} at step ${t} depends on the ${WORDS[state]} at earlier steps, ${way}`;
}

function drawCaption() {
  const { kind } = at.from, { state } = layerOf(0);
  const of = kind === "unit" ? `${numerator(state)}[${at.units[0]}]` : numerator(state);
  const missing = networks.map((_, k) =>
    flows[k]?.why ? `Not for the ${escaped(fullName(k))}: ${escaped(flows[k].why)}.` : "");
  $("flow-caption").innerHTML = [`∂${of}/∂${sub(state, "s")} ${sentence()}`, ...missing].join(" ");

  const states = [...new Set(networks.map((_, k) => layerOf(k).state))].map((each) => sub(each, "s")).join(" or ");
  $("norm-name").innerHTML = `‖∂${numerator(state)}/∂${states}‖`;
  $("norm-scale").textContent = kind === "loss" ? "of the largest" : `of that at ${onlyAtTheEnd && kind === "error" ? "the end" : "t"}`;
  networks.forEach((_, k) => {
    const own = layerOf(k).state;
    $(`${k}-flow-name`).innerHTML = `∂${numerator(own)}/∂${sub(own, "s")}`;
  });
  $("from-error").textContent = onlyAtTheEnd ? "error at the end" : "error at step";
  $("cell-alone").hidden = kind === "loss" || state === "h";
  for (const which of ["loss", "error", "unit"]) $(`from-${which}`).setAttribute("aria-pressed", which === kind);
}
