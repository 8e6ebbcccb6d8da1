// When a state counts as favourable: the thresholds that hold, others to try on the last ten minutes, and to apply.

import { $, show } from "./dom.js";
import { ask } from "./link.js";
import { axis, BLUE, plot, replot, secondsAxis } from "./plots.js";
import { armed, known, now, on, stale } from "./state.js";
import uPlot from "./vendor/uPlot.esm.js";

const NAMES = ["p_on", "p_off", "dwell_hops", "smoothing_s"], HELD_S = 600;
const field = (name) => $(`th-${name}`);
let chart = null, edited = false, busy = false;

const asked = () => Object.fromEntries(NAMES.map((name) => [name, field(name).valueAsNumber]));

function showHeld({ thresholds }) {
  if (!edited) for (const name of NAMES) field(name).value = String(Number(thresholds[name].toFixed(4)));
  refresh();
}

function refresh() {
  const locked = stale() || armed() || !known.trigger, valid = $("th-form").checkValidity();
  for (const name of NAMES) field(name).disabled = locked;
  $("th-preview").disabled = locked || busy || !valid || !known.trigger.limits || Boolean(known.trigger.plan?.blind);
  $("th-apply").disabled = locked || busy || !valid || !edited;
  $("th-revert").disabled = locked || (!edited && !known.preview);
  show("th-note", armed() ? "locked while armed" : edited ? "not applied" : known.trigger?.state === "SHADOW" ? "to apply ends shadow" : "as they hold");
}

async function attempt(what) {
  busy = true;
  refresh();
  try { await what(); } catch (error) { show("th-result", error.message); }
  busy = false;
  refresh();
}

const preview = () => attempt(async () => {
  show("th-result", "asking the engine …");
  const told = known.preview = await ask("POST", "v1/trigger/preview", asked(), { signal: AbortSignal.timeout(15000) });
  const often = told.would_fire ? `${told.per_minute.toFixed(1)} a minute, after ${told.mean_wait_s.toFixed(1)} s` : "never";
  show("th-result", `would have fired ${told.would_fire} × in ${told.minutes.toFixed(1)} min: ${often}`);
});

const apply = () => attempt(async () => {
  await ask("PUT", "v1/trigger", asked());
  edited = false;
  show("th-result", "applied");
});

function revert() {
  edited = false;
  known.preview = null;
  show("th-result", "what would the last ten minutes have given?");
  showHeld(known.trigger);
}

export function draw() {
  const end = now(), times = (known.preview?.times ?? []).filter((time) => time > end - HELD_S);
  replot(chart, [[end - HELD_S - 1, ...times, end + 1], [null, ...times.map(() => 1), null]], end - HELD_S, end);
}

export function begin() {
  chart = plot($("th-strip"), {
    padding: [4, 18, 0, 30],
    scales: { x: { time: false }, y: { range: [0, 1] } },
    axes: [secondsAxis(now, HELD_S, 120, (s) => `−${Math.round(s / 60)} min`), axis({ show: false })],
    series: [{}, { stroke: BLUE, fill: BLUE, width: 0, paths: uPlot.paths.bars({ size: [0.1, 2, 2] }), points: { show: false } }],
  }, [[0, 1], [null, null]]);
  on("trigger_state", showHeld);
  on("stale", refresh);
  $("th-form").oninput = () => { edited = true; refresh(); };
  $("th-form").onsubmit = (event) => event.preventDefault();
  $("th-form").onchange = () => { if (!$("th-preview").disabled) preview(); };
  $("th-preview").onclick = preview;
  $("th-apply").onclick = apply;
  $("th-revert").onclick = revert;
}
