// What the page holds and where the reader is. Every change of `at` ends in one of the draw functions.
"use strict";

const ROW = 36, DECADES = 6, BUDGET = 24; // pixels; decades of colour; ms at a time

const data = JSON.parse(document.getElementById("undertow-data").textContent);
const [LEFT, RIGHT] = data.borders;
const networks = data.networks.map(unpackNetwork), T = data.T, inputs = unpack(data.inputs);
const at = {
  t: 0, // the cursor
  network: 0, layer: 0, // in view
  units: networks.map(() => 0), // chosen, one of each network
  from: { kind: "loss", t: T - 1 }, // what flows back: the loss, an error or a unit; and from which step
  order: "alike", query: "", // of units
};
const rows = [], flows = [];  // for each network: the units shown, from top to bottom; the gradient
const endsAlone = networks.every((network) => network.onlyAtTheEnd);  // no loss enters before the last step
const onlyAtTheEnd = endsAlone && networks.every((network) => network.layers.every((layer) => !layer.whyNot));  // and every layer can be followed from there
const pen = document.createElement("canvas").getContext("2d");  // measures words in the font of the axes
pen.font = "11px system-ui, sans-serif";
const $ = (id) => document.getElementById(id);
let doc, theme, clicked, running = 0;

const layerOf = (k) => networks[k].layers[Math.min(at.layer, networks[k].layers.length - 1)];
const fullName = (k) => [networks[k].name, layerOf(k).name].filter(Boolean).join(", ");
const model = (name) => doc.get_model_by_name(name);
const time = () => model("time");
