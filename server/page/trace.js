// The last 30 s of the probability, with all that happened in them, and its newest value in words.

import { HERE } from "./arrays.js";
import { $, show } from "./dom.js";
import { known, marks, now, on, SPAN_S, stale, trace } from "./state.js";
import { axis, BLUE, INK, PHOSPHOR, pixels, plot, rem, replot, secondsAxis, TEAL } from "./plots.js";

const BROKEN_S = 0.5;   // without a prediction for so long the line is broken
const REASONS = {
  gap: "gap in the samples", backlog: "old samples catching up", blanking: "stimulation blanked", late_marker: "marker came late",
  settling: "filters settling", channels: "too few channels", not_finite: "not a number", not_calibrated: "not this model's participant",
  blind: "hidden: blind experiment", overload: "overloaded", drift: "signal drifted", "no probe": "model has no such probe",
};

let chart = null;

function columns(end) {   // times; every prediction; their mean over a second; evoked ones, which stand alone
  const times = [end - SPAN_S], raw = [null], means = [null], evoked = [null];
  let from = 0, sum = 0, n = 0, before = null;
  for (const point of trace) {
    if (before !== null && point.time - before > BROKEN_S) { times.push(before + 0.001); raw.push(null); means.push(null); evoked.push(null); }
    const alone = point.mode === "evoked";
    if (point.p !== null) { sum += point.p; n += 1; }
    for (; trace[from].time < point.time - 1; from++) if (trace[from].p !== null) { sum -= trace[from].p; n -= 1; }
    times.push(point.time);
    raw.push(alone ? null : point.p);
    means.push(alone || point.p === null ? null : sum / n);
    evoked.push(alone ? point.p : null);
    before = point.time;
  }
  return [[...times, end], [...raw, null], [...means, null], [...evoked, null]];
}

export function draw() {
  const end = now();
  replot(chart, columns(end), end - SPAN_S, end);
}

// ---- what stands behind and before the line -------------------------------------------------------------------------

function places(u) { return [(time) => u.valToPos(time, "x", true), (p) => u.valToPos(p, "p", true), u.ctx]; }

function behind(u) {
  const [x, y, g] = places(u);
  g.save();
  g.beginPath(); g.rect(u.bbox.left, u.bbox.top, g.canvas.width - u.bbox.left, u.bbox.height); g.clip();
  let start = null;
  for (const point of [...trace, { time: trace.at(-1)?.time, p: 0 }]) {
    if (start && (point.p !== null || point.reason !== start.reason)) { hatch(g, x(start.time), x(point.time), y, REASONS[start.reason] ?? start.reason); start = null; }
    if (point.p === null && !start) start = point;
  }
  const { trigger, preview } = known;
  if (trigger?.limits && !trigger.plan?.blind && HERE === "first") {
    threshold(g, u, y(trigger.thresholds.p_on), TEAL, [6, 4], `enter ${trigger.thresholds.p_on}`, -5);
    threshold(g, u, y(trigger.thresholds.p_off), TEAL, [2, 4], `leave ${trigger.thresholds.p_off}`, 8);
  }
  if (preview) threshold(g, u, y(preview.p_on), BLUE, [6, 4], `tried ${preview.p_on}`, preview.p_on > trigger.thresholds.p_on ? -19 : 20);
  g.restore();
}

function threshold(g, u, at, colour, dash, text, beside) {   // named in the margin, where no line hides the words
  g.lineWidth = pixels(1);
  g.strokeStyle = colour;
  g.globalAlpha = 0.7;
  g.setLineDash(dash.map(pixels));
  g.beginPath(); g.moveTo(u.bbox.left, at); g.lineTo(u.bbox.left + u.bbox.width, at); g.stroke();
  g.setLineDash([]);
  g.globalAlpha = 1;
  g.fillStyle = colour;
  g.textAlign = "left"; g.textBaseline = "middle";
  g.fillText(text, u.bbox.left + u.bbox.width + pixels(6), at + pixels(beside));
}

function hatch(g, from, to, y, text) {   // where nothing is vouched for, with its reason
  const top = y(1), bottom = y(0), wide = Math.max(pixels(2), to - from);
  g.save();
  g.beginPath(); g.rect(from, top, wide, bottom - top); g.clip();
  g.fillStyle = "#9aa7b812"; g.fillRect(from, top, wide, bottom - top);
  g.strokeStyle = "#9aa7b838"; g.lineWidth = pixels(1); g.beginPath();
  const first = Math.floor((from - (bottom - top)) / pixels(8)) * pixels(8);   // a fixed raster, so that it does not crawl
  for (let d = first; d < to; d += pixels(8)) { g.moveTo(d, bottom); g.lineTo(d + bottom - top, top); }
  g.stroke();
  g.restore();
  if (wide < pixels(16)) return;
  const size = g.measureText(text).width;
  g.save();
  g.translate(from + wide / 2, y(0.5));
  if (size + pixels(12) > wide) g.rotate(-Math.PI / 2);   // along the stretch where it fits, else upwards
  g.textAlign = "center"; g.textBaseline = "middle";
  g.fillStyle = INK.panel; g.fillRect(-size / 2 - pixels(5), -pixels(9), size + pixels(10), pixels(18));
  g.fillStyle = INK.text; g.fillText(text, 0, 0);
  g.restore();
}

function before(u) {
  const [x, y, g] = places(u);
  g.save();
  for (const mark of marks) {
    const at = x(mark.time);
    if (at < u.bbox.left || at > u.bbox.left + u.bbox.width) continue;
    if (mark.kind === "stim") stimulation(g, at, y);
    else if (mark.kind === "yes" || mark.kind === "no") disc(g, at, y(1) - pixels(8), mark.kind === "yes");
    else triangle(g, at, y(0) - pixels(1), mark);
  }
  for (const time of known.preview?.times ?? []) if (x(time) >= u.bbox.left) diamond(g, x(time), y(known.preview.p_on));
  g.restore();
}

function stimulation(g, at, y) {
  g.strokeStyle = BLUE; g.lineWidth = pixels(1.2);
  g.beginPath(); g.moveTo(at, y(0)); g.lineTo(at, y(1) - pixels(3)); g.stroke();
}

function disc(g, at, height, filled) {
  g.strokeStyle = g.fillStyle = BLUE; g.lineWidth = pixels(2);
  g.beginPath(); g.arc(at, height, pixels(4), 0, 7);
  if (filled) g.fill(); else g.stroke();
}

function diamond(g, at, middle) {
  const r = pixels(5);
  g.strokeStyle = BLUE; g.lineWidth = pixels(1.6);
  g.beginPath(); g.moveTo(at, middle - r); g.lineTo(at + r, middle); g.lineTo(at, middle + r); g.lineTo(at - r, middle); g.closePath();
  g.fillStyle = INK.panel; g.fill(); g.stroke();
}

function triangle(g, at, foot, mark) {   // filled where a pulse was asked for, crossed where it was refused
  const shadow = mark.kind === "would_fire";
  g.strokeStyle = g.fillStyle = shadow ? BLUE : TEAL;
  g.lineWidth = pixels(1.6);
  if (shadow) diamond(g, at, foot - pixels(6));
  else {
    g.beginPath(); g.moveTo(at, foot - pixels(11)); g.lineTo(at + pixels(6), foot); g.lineTo(at - pixels(6), foot); g.closePath();
    if (mark.kind === "trigger") g.fill(); else g.stroke();
    if (mark.kind === "refused") { g.beginPath(); g.moveTo(at - pixels(6), foot); g.lineTo(at + pixels(6), foot - pixels(11)); g.stroke(); }
  }
  if (mark.arm) { g.textAlign = "left"; g.textBaseline = "alphabetic"; g.fillText(mark.arm.slice(0, 3), at + pixels(9), foot - pixels(2)); }
}

// ---- the newest value -----------------------------------------------------------------------------------------------

function showValue() {
  const last = trace.at(-1), fresh = last && !stale(), vouched = fresh && last.p !== null, evoked = last?.mode === "evoked";
  show("h-trace", evoked ? "Was it perceived?" : "Will it be perceived?");
  show("value", vouched ? last.p.toFixed(2) : "–");
  $("value").classList.toggle("void", !vouched);
  show("meaning", !last ? "no prediction yet" : !fresh ? (last.p === null ? "no prediction" : `the last one was ${last.p.toFixed(2)}`) : vouched ? `about ${Math.round(last.p * 100)} of 100 such ${evoked ? "trials" : "moments"}` : whyNot(last.reason));
}

function whyNot(reason) {
  if (reason === "blind") return "hidden: a blind experiment runs";
  return `not vouched for: ${(reason === "not_calibrated" && known.status?.not_calibrated) || (REASONS[reason] ?? reason)}`;
}

export function begin() {
  const line = (stroke, width) => ({ scale: "p", stroke, width, points: { show: false }, spanGaps: false });
  const dots = { scale: "p", stroke: PHOSPHOR, paths: () => null, points: { show: true, size: 7, fill: PHOSPHOR } };
  chart = plot($("trace"), {
    padding: [18, rem(5.8), 0, 0],
    scales: { x: { time: false }, p: { range: [0, 1] } },
    axes: [secondsAxis(now, SPAN_S, 5), axis({ scale: "p", size: 38, splits: () => [0, 0.25, 0.5, 0.75, 1], values: (_, s) => s.map(String) })],
    series: [{}, line(`${PHOSPHOR}70`, 1), line(PHOSPHOR, 2.4), dots],
    hooks: { drawClear: [behind], draw: [before] },
  }, columns(0));
  setInterval(showValue, 250);   // four times a second can be read
  on("stale", showValue);
}
