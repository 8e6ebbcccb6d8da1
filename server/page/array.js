// The array seen from above: one square per electrode, coloured by what is chosen; dead, masked and missing ones marked.

import { $, element, number, show } from "./dom.js";
import { known, on, tell } from "./state.js";

// Anchors of cividis (amounts) and of a blue–dark–orange map with its dark middle at zero (z): safe for colour-blind eyes.
const AMOUNT = [[0, 32, 76], [40, 61, 108], [87, 93, 109], [124, 123, 120], [166, 157, 117], [211, 193, 100], [255, 233, 69]];
const AROUND = [[158, 202, 255], [74, 144, 217], [31, 74, 122], [20, 24, 31], [122, 68, 28], [222, 130, 50], [255, 205, 140]];
export const METRICS = {
  envelope_uv: { label: "MUA", unit: "µV", map: AMOUNT },
  z: { label: "z", unit: "", map: AROUND, low: -3, high: 3 },
  noise_uv: { label: "Noise", unit: "µV", map: AMOUNT },
};
export const view = { metric: "z", channel: null };
const ceilings = { envelope_uv: 10, noise_uv: 1 };

function colour(map, x) {
  const at = Math.min(1, Math.max(0, x)) * (map.length - 1), i = Math.min(map.length - 2, Math.floor(at)), f = at - i;
  return `rgb(${map[i].map((v, k) => Math.round(v + f * (map[i + 1][k] - v))).join(" ")})`;
}

// ---- where the electrodes are ---------------------------------------------------------------------------------------

let sites = [], placedFor = "";

function cells({ positions, labels }) {   // (column, row) of each, whatever unit the rig gives them in
  const side = Math.max(10, Math.ceil(Math.sqrt(labels.length)));
  const places = positions ?? labels.map((_, i) => [i % side, Math.floor(i / side)]);
  const axes = [0, 1].map((axis) => {
    const sorted = [...new Set(places.map((place) => place[axis]))].sort((a, b) => a - b);
    return [sorted[0], Math.min(...sorted.slice(1).map((v, i) => v - sorted[i]), Infinity) || 1];
  });
  return places.map((place) => axes.map(([low, step], axis) => Math.round((place[axis] - low) / step) || 0));
}

function place(array) {
  const key = JSON.stringify(array.positions) + array.labels.length;
  if (key === placedFor) return;
  placedFor = key;
  view.channel = null;
  const at = cells(array), size = Math.max(10, ...at.flat().map((v) => v + 1)), byPlace = new Map(at.map((cell, i) => [String(cell), i]));
  sites = [];
  $("map").setAttribute("role", "grid");   // not before it has cells
  $("map").style.setProperty("--size", size);
  $("map").replaceChildren(...Array.from({ length: size }, (_, y) => {
    const row = element("div");
    row.setAttribute("role", "row");
    for (let x = 0; x < size; x++) row.append(square(byPlace.get(String([x, y])), x, y));
    return row;
  }));
}

function square(i, x, y) {
  const node = element(i === undefined ? "span" : "button", "", i === undefined ? "site unwired" : "site");
  node.setAttribute("role", "gridcell");
  if (i === undefined) { node.setAttribute("aria-label", "not wired"); return node; }
  node.type = "button";
  node.tabIndex = -1;
  node.onclick = node.onfocus = () => choose(i);
  node.onkeydown = (event) => move(event, x, y);
  sites[i] = { node, x, y };
  return node;
}

function move(event, x, y) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (!dx && !dy) return;
  event.preventDefault();
  for (let k = 1; k < 12; k++) {
    const next = sites.find((site) => site.x === x + k * dx && site.y === y + k * dy);
    if (next) { next.node.focus(); return; }
  }
}

function choose(i) {
  if (view.channel !== null && sites[view.channel]) { sites[view.channel].node.tabIndex = -1; sites[view.channel].node.classList.remove("chosen"); }
  view.channel = i;
  sites[i].node.tabIndex = 0;
  sites[i].node.classList.add("chosen");
  tell("channel", i);
}

// ---- what they show -------------------------------------------------------------------------------------------------

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-3)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((m) => m * power).find((m) => m >= value) ?? 10 * power;
}

export function bounds(array) {   // amounts: the scale follows the 98th percentile in round steps, so that colours hold still
  const { low, high } = METRICS[view.metric];
  if (low !== undefined) return [low, high];
  const values = (array[view.metric] ?? []).filter((v, i) => v !== null && array.usable[i]).sort((a, b) => a - b);
  if (values.length) {
    const wanted = nice(values[Math.floor(0.98 * (values.length - 1))] * 1.05);
    if (wanted > ceilings[view.metric] || wanted < 0.6 * ceilings[view.metric]) ceilings[view.metric] = wanted;
  }
  return [0, Number(ceilings[view.metric].toPrecision(2))];
}

export function describe(array, i) {
  const how = array.masked?.includes(i + 1) ? "masked" : array.usable[i] ? "" : "dead";
  return `${array.labels[i]}: ${number(array.envelope_uv[i])} µV, z ${number(array.z[i], 2)}, noise ${number(array.noise_uv?.[i])} µV${how ? `, ${how}` : ""}`;
}

function showArray(array) {
  place(array);
  const values = array[view.metric] ?? [], [low, high] = bounds(array), { map, unit } = METRICS[view.metric];
  const listed = new Set(known.trigger?.limits?.electrodes ?? []);
  sites.forEach(({ node }, i) => {
    const masked = array.masked?.includes(i + 1) ?? false, good = array.usable[i] && values[i] != null;
    node.classList.toggle("masked", masked);
    node.classList.toggle("dead", !masked && !array.usable[i]);
    node.classList.toggle("listed", listed.has(i + 1));
    node.style.backgroundColor = good ? colour(map, (values[i] - low) / (high - low)) : "";
    node.setAttribute("aria-label", describe(array, i));
  });
  show("scale-low", String(low).replace("-", "−"));
  show("scale-high", `${high} ${unit || "z"}`);
  const used = array.usable.filter(Boolean).length;
  $("map").setAttribute("aria-label", `Electrode array: ${used} of ${sites.length} channels used; arrow keys move`);
  if (view.channel === null && sites.length) choose(sites[[...listed][0] - 1] ? [...listed][0] - 1 : 0);
}

function showMetric(metric) {
  view.metric = metric;
  for (const button of $("metric").children) {
    const on = button.value === metric;
    button.setAttribute("aria-checked", String(on));
    button.tabIndex = on ? 0 : -1;
  }
  $("scale").style.backgroundImage = `linear-gradient(90deg, ${METRICS[metric].map.map((c) => `rgb(${c.join(" ")})`).join(", ")})`;
  if (known.array) showArray(known.array);
  tell("metric", metric);
}

export function begin() {
  const names = Object.keys(METRICS);
  $("metric").append(...names.map((name, i) => {
    const { label, unit } = METRICS[name], button = element("button", unit ? `${label}, ${unit}` : `MUA, ${label}`);
    Object.assign(button, { type: "button", value: name, onclick: () => showMetric(name) });
    button.setAttribute("role", "radio");
    button.onkeydown = ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key], next = names[(i + step + names.length) % names.length];
      if (step) { showMetric(next); $("metric").children[names.indexOf(next)].focus(); }
    };
    return button;
  }));
  showMetric("z");
  on("array", showArray);
}
