// Heat maps: a row for each unit shown, a column for each step.
"use strict";

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

// The range of 99 % of a sample of values: a few outliers would leave the others without colour.
function most(values) {
  const step = Math.max(1, Math.floor(values.length / 50000)), sizes = [];
  for (let a = 0; a < values.length; a += step) sizes.push(Math.abs(values[a]));
  return sizes.sort((a, b) => a - b)[Math.floor(0.99 * (sizes.length - 1))] || 1;
}

// Sign and size on a logarithmic scale: 1 for the largest, 0 below 10^-DECADES of it.
function drawFlowMap(k) {
  const flow = flows[k], top = flow.top || 0;
  const colored = (x) => (x ? Math.sign(x) * Math.max(0, 1 + Math.log10(Math.abs(x) / top) / DECADES) : x);
  image(`${k}-flow`, k, flow.values, -1, 1, colored, flow.from, flow.to);
  $(`${k}-flow-ends`).textContent = top ? `± ${number(top, 2)}` : "";
}

// The steps from..to of ``values`` [T,H] as an image, a row for each unit shown; other steps are empty.
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
