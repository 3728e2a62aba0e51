// Unpacks the page's arrays from base64, and writes numbers as text.
"use strict";

const HALF = new Float32Array(65536).map((_, bits) => {  // every float16
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
});

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) out[k] = raw.charCodeAt(k);
  return out.buffer;
}

function unpack(packed) {
  if (!packed) return null;
  const buffer = bytes(packed.bytes);
  if (packed.type === "float32") return new Float32Array(buffer);
  const out = Float32Array.from(new Uint16Array(buffer), (bits) => HALF[bits]);
  if (!packed.scale) return out;
  const scale = new Float32Array(bytes(packed.scale)), width = packed.shape[1];
  return out.map((x, k) => x * scale[Math.floor(k / width)]);
}

function unpackNetwork(network) {
  for (const layer of network.layers) {
    for (const name in layer.values) layer.values[name] = unpack(layer.values[name]);
    for (const name of ["c0", "weightHH", "weightIH"]) layer[name] = unpack(layer[name]);
  }
  for (const name of ["entering", "enteringC", "error"]) network[name] = unpack(network[name]);
  return network;
}

// A number as text: integers in full, others with some significant digits, with a power of ten if far from 1.
function number(x, digits = 4) {
  if (x === undefined || Number.isNaN(x)) return "–";
  const size = Math.abs(x), rounded = Number(x.toPrecision(digits));
  const far = size && (size < 1e-3 || size >= 1e5) && !(Number.isInteger(x) && size < 1e7);
  const text = far ? rounded.toExponential() : String(Number.isInteger(x) ? x : rounded);
  return text.replaceAll("-", "−").replace("e+", "e");
}

// The same, with all digits of the array when the pointer rests on it.
const exact = (x) => `<span title="${number(x, 9)}">${number(x)}</span>`;

// Two decimals.
function short(x) {
  const text = x.toFixed(2);
  return text === "-0.00" ? "0.00" : text.replace("-", "−");
}

function seen(symbol) {
  return { " ": "space", "\n": "new line", "\t": "tab", "\r": "return" }[symbol] ?? `“${symbol}”`;
}

function escaped(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span.innerHTML;
}
