// The chosen channel: its numbers, its last 30 s, and taking it out of the windows or back in, in two steps.

import { $, show } from "./dom.js";
import { bounds, describe, METRICS, view } from "./array.js";
import { ask } from "./link.js";
import { axis, plot, replot, secondsAxis, TEAL } from "./plots.js";
import { frames, known, on, SPAN_S, stale } from "./state.js";

const SURE_MS = 4000;   // so long does the second step wait
let chart = null, sure = null;

const end = () => performance.now() / 1000;
const masked = () => known.array.masked.includes(view.channel + 1);

export function draw() {
  const at = end(), i = view.channel, values = i === null ? [] : frames.map((frame) => frame[view.metric]?.[i] ?? null);
  replot(chart, [[at - SPAN_S, ...(i === null ? [] : frames.map((frame) => frame.time)), at], [null, ...values, null]], at - SPAN_S, at);
}

function range() {
  if (!known.array || view.channel === null) return [0, 1];
  const own = frames.map((frame) => frame[view.metric]?.[view.channel]).filter((v) => v != null), [low, high] = bounds(known.array);
  return [Math.min(low, ...own), Math.max(high, ...own)];
}

function refresh() {
  const array = known.array;
  if (!array || view.channel === null) return;
  show("channel", describe(array, view.channel));
  const can = array.masked !== undefined && !stale();
  $("mask").disabled = !can;
  show("mask", sure !== null ? `${masked() ? "Unmask" : "Mask"} ${array.labels[view.channel]}?` : masked() ? "Unmask…" : "Mask…");
  $("mask").classList.toggle("confirm", sure !== null);
}

function unsure() { clearTimeout(sure); sure = null; refresh(); }

async function toggle() {
  if (sure === null) { sure = setTimeout(unsure, SURE_MS); refresh(); return; }
  const channel = view.channel + 1, others = known.array.masked.filter((one) => one !== channel);
  const wanted = masked() ? others : [...others, channel];
  unsure();
  try { await ask("PUT", "v1/channels", { masked: wanted }); } catch (error) { show("channel", error.message); }
}

export function begin() {
  chart = plot($("channel-plot"), {
    padding: [6, 12, 0, 0],
    scales: { x: { time: false }, y: { range } },
    axes: [secondsAxis(end, SPAN_S, 10), axis({ scale: "y", size: 38, splits: (_, i, low, high) => [low, (low + high) / 2, high], values: (_, s) => s.map((v) => String(Number(v.toPrecision(2)))) })],
    series: [{}, { stroke: TEAL, width: 1.4, points: { show: false } }],
  }, [[0, 1], [null, null]]);
  on("array", refresh);
  on("stale", unsure);
  on("trigger_state", refresh);
  on("channel", unsure);
  on("metric", () => $("channel-plot").setAttribute("aria-label", `${METRICS[view.metric].label} of the chosen channel over the last 30 seconds`));
  $("mask").onclick = toggle;
}
