// The live page: shows what the service says, and greys out when it says nothing. It never guesses; what commands is in
// trigger.js.
// Two WebSockets come in, one animation frame draws. All text from outside goes through textContent.

import { begin as beginTrigger, current as trigger, showTrigger } from "./trigger.js";

const SPAN_S = 30, STALE_MS = 800, FRAMES_PER_S = 30;
const HERE = location.pathname.match(/\/arrays\/([^/]+)\/$/)?.[1] ?? "first", ROOT = HERE === "first" ? "./" : "../../";   // which array
const $ = (id) => document.getElementById(id);
const show = (id, text) => { const node = $(id); if (node.textContent !== text) node.textContent = text; };
const percent = (value) => `${(100 * value).toFixed(0)}`;
const score = (s) => (s.balanced_accuracy === null ? `– (n = ${s.n})` : `${percent(s.balanced_accuracy)} % [${s.interval.map(percent).join(", ")}], n = ${s.n}`);
const number = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const count = (value) => (value ?? 0).toLocaleString("en-GB").replaceAll(",", "\u202f");

// ---- what we know ---------------------------------------------------------------------------------------------------

const trace = [];            // {time, p, reason, mode}, oldest first
const marks = [];            // {time, kind: "stim" | "yes" | "no" | "trigger" | "sham" | "would_fire", arm}
let runId = null, lastSeq = null, lastPredictionAt = -Infinity, lastEventAt = -Infinity, lastArrayAt = -Infinity, clockOffset = null;
let status = null, array = null, showZ = false, ceiling = 10, connected = false, told = false, attempts = 0, noted = false, lastHappened = -1;

function addPrediction(message) {
  const now = performance.now();
  if (message.run_id !== runId) { runId = message.run_id; trace.length = 0; clockOffset = null; }
  lastSeq = message.seq;
  lastPredictionAt = now;
  const offset = now / 1000 - message.sample_time;
  if (clockOffset === null || Math.abs(offset - clockOffset) > 2) {   // the source's clock began anew
    if (clockOffset !== null && offset - clockOffset > 2 && trace.length && message.sample_time < trace.at(-1).time) trace.length = marks.length = 0;
    clockOffset = offset;
  }
  clockOffset = Math.min(clockOffset + 0.0005, offset);
  trace.push({ time: message.sample_time, p: message.probability, reason: message.flags[0] ?? (trigger()?.plan?.blind ? "blind" : "no probe"), mode: message.mode });
  while (trace.length && trace[0].time < message.sample_time - SPAN_S - 2) trace.shift();
  while (marks.length && marks[0].time < message.sample_time - SPAN_S - 2) marks.shift();
}

function addEvent(message) {
  lastEventAt = performance.now();
  if (message.type === "status") {
    if (status && status.run_id !== message.run_id) { marks.length = 0; lastHappened = -1; }
    status = message;
    showStatus();
    return;
  }
  if (message.type === "trigger_state") { showTrigger(message); return; }
  if (message.type === "array") {   // comes only while samples come
    array = message;
    if (told) lastArrayAt = lastEventAt;   // the first after connecting may be old
    told = true;
    showArray();
    return;
  }
  if (message.event_seq <= lastHappened) return;   // told again after a reconnect
  lastHappened = message.event_seq ?? lastHappened;
  if (message.type === "stim") {
    marks.push({ time: message.sample_time, kind: "stim" });
    const where = message.electrode === null ? "" : ` on electrode ${message.electrode}`;
    note(message.sample_time, `stimulation${where}${message.current_ua === null ? "" : `, ${number(message.current_ua, 0)} µA`}`);
  } else if (message.type === "report") {
    marks.push({ time: message.sample_time, kind: message.perceived ? "yes" : "no" });
    note(message.sample_time, message.perceived ? "reported: perceived" : "reported: not perceived");
  } else if (["trigger", "sham", "would_fire"].includes(message.type)) {
    marks.push({ time: message.sample_time, kind: message.refused ? "refused" : message.type, arm: message.arm });
    const word = { trigger: "trigger", sham: "sham", would_fire: "would fire" }[message.type];
    note(message.sample_time, `${word}${message.arm ? `, ${message.arm}` : ""}${message.refused ? `: not sent, ${message.refused}` : ""}`);
  } else if (message.type === "transition") note(null, `${message.from} → ${message.to}: ${message.reason}`);
  else if (message.type === "late_marker") note(null, `late marker: ${message.last_seq - message.first_seq + 1} withdrawn`);
  else if (message.type === "dropped") note(null, `this page fell behind by ${message.count} messages`);
}

function note(time, text) {
  const item = document.createElement("li"), when = document.createElement("time");
  when.textContent = time === null ? "" : `${time.toFixed(1)} s`;
  item.append(when, text);
  if (!noted) $("log").replaceChildren();
  noted = true;
  $("log").prepend(item);
  while ($("log").childElementCount > 12) $("log").lastChild.remove();
}

// ---- connections ----------------------------------------------------------------------------------------------------

function listen(path, onMessage, wait = 250) {
  const address = new URL(path(), location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.onopen = () => { wait = 250; connected = true; attempts = 0; };
  socket.onmessage = (event) => onMessage(JSON.parse(event.data));
  socket.onclose = () => {
    connected = told = false;
    attempts += 0.5;   // two sockets
    setTimeout(() => listen(path, onMessage, Math.min(4000, wait * 2)), wait * (0.8 + 0.4 * Math.random()));
  };
}

async function begin() {
  let since = -1;
  try {
    since = Math.max(-1, (await (await fetch("v1/status")).json()).next_seq - SPAN_S * 100);
  } catch { /* the sockets below keep trying */ }
  listen(() => `v1/predictions?format=json&fields=probability&max_hz=${FRAMES_PER_S}&since_seq=${lastSeq ?? since}`,
    (message) => { if (message.type === "prediction") addPrediction(message); });
  listen(() => "v1/events", addEvent);
}

// ---- header, numbers ------------------------------------------------------------------------------------------------

const BANNERS = { live: ["●", "LIVE"], replay: ["↻", "REPLAY"], simulated: ["◇", "SIMULATED"] };

function showStatus() {
  const source = status.stream?.source;
  const [mark, word] = BANNERS[source] ?? ["○", "NO SOURCE"];
  $("banner").className = `banner ${BANNERS[source] ? source : "none"}`;
  show("banner-mark", mark);
  show("banner-word", word);
  $("state").className = `state ${status.state}`;
  show("state-word", status.state);
  show("participant", status.stream?.participant ?? "not stated");
  show("session", status.stream?.session ?? "not stated");
  show("model", status.model);
  show("provider", `${status.provider}, ${status.precision}`);
  document.title = `${word} · ${status.arrays.length ? `${HERE} · ` : ""}Phosphene`;
  showArrays(status.arrays);
  show("ready", status.ready ? "ready" : "not ready");
  show("reasons", status.not_ready.join("; "));

  const rows = [["signal", "signal chain"], ["queue", "waiting"], ["inference", "inference"], ["total", "sample → prediction"]];
  $("latency").replaceChildren(...rows.map(([key, name]) => {
    const row = document.createElement("tr"), head = document.createElement("th"), stage = status.latency_ms?.[key];
    head.scope = "row";
    head.textContent = name;
    row.append(head, ...["p50", "p95", "p99", "max"].map((p) => { const cell = document.createElement("td"); cell.textContent = number(stage?.[p], 2); return cell; }));
    return row;
  }));
  show("delay", status.signal_delay_s === null ? "" : `The filters add ${number(status.signal_delay_s * 1000)} ms of delay to what a sample says, beyond these times.`);

  const total = array?.usable.length ?? status.stream?.channels ?? 0, c = status.counters ?? {};
  const flows = ["running", "warming"].includes(status.state), rate = status.rate_measured_hz, nominal = status.stream?.rate_hz;
  const facts = [
    ["channels used", flows ? `${status.usable_channels} of ${total}` : "–", flows && status.usable_channels < 0.9 * total],
    ["rate", rate ? `${(rate / 1000).toFixed(2)} kHz` : "–", rate && nominal && Math.abs(rate / nominal - 1) > 0.02],
    ["samples lost", count(c.lost_samples), c.lost_samples > 0],
    ["gaps", count(c.gaps), c.gaps > 0],
    ["backlog samples", count(c.backlog_samples), c.backlog_samples > 0],
    ["reconnects", count(c.reconnects), c.reconnects > 0],
    ["windows skipped", count(status.skipped_windows), status.skipped_windows > 0.01 * status.predictions],
    ["predictions", count(status.predictions), false],
    ["late markers", count(status.late_markers), false],
    ["event stream", c.hears_events == null ? "–" : c.hears_events ? "heard" : "none: no train is blanked", c.hears_events === false],
    ...(status.evoked ? [["evoked, balanced", score(status.evoked), false]] : []),
    ["malformed markers", count(c.malformed_markers), c.malformed_markers > 0],
  ];
  $("quality").replaceChildren(...facts.map(([name, text, bad]) => {
    const pair = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    value.className = bad ? "bad" : "";
    pair.append(term, value);
    return pair;
  }));
}

function showArrays(others) {   // the way to each, where there are several
  if (!others.length || $("arrays").childElementCount) return;
  $("arrays").hidden = false;
  $("arrays").replaceChildren(...["first", ...others].map((name) => {
    const link = document.createElement("a");
    link.href = name === "first" ? ROOT : `${ROOT}arrays/${name}/`;
    link.textContent = name;
    if (name === HERE) link.setAttribute("aria-current", "page");
    return link;
  }));
}

const REASONS = {
  gap: "gap in the samples", backlog: "old samples catching up", blanking: "stimulation blanked", late_marker: "marker came late",
  settling: "filters settling", channels: "too few channels", not_finite: "not a number", not_calibrated: "not this model's participant",
  blind: "hidden: blind experiment", overload: "overloaded", drift: "signal drifted", "no probe": "model has no such probe",
};

function showValue() {
  const last = trace.at(-1);
  if (!last || document.body.classList.contains("stale")) return;
  const known = last.p !== null;
  show("value", known ? last.p.toFixed(2) : "–");
  $("value").parentElement.classList.toggle("void", !known);
  show("meaning", known ? `of 100 such moments, about ${Math.round(last.p * 100)} perceived` : last.reason === "blind" ? "hidden: a blind experiment runs" : `not vouched for: ${last.reason === "not_calibrated" && status?.not_calibrated || (REASONS[last.reason] ?? last.reason)}`);
}

function showStale() {
  const now = performance.now(), evoked = trace.at(-1)?.mode === "evoked";   // which predicts only after a stimulation
  const stale = !(now - Math.min(lastArrayAt, lastEventAt, evoked ? Infinity : lastPredictionAt) < STALE_MS);
  document.body.classList.toggle("stale", stale);
  show("link", connected ? "connected" : `not connected, attempt ${Math.ceil(attempts)}`);
  if (!stale) return;
  const seconds = (ms) => (Number.isFinite(ms) ? ` for ${(ms / 1000).toFixed(1)} s` : "");
  if (!(now - lastEventAt < STALE_MS)) {
    show("stale", `STALE: nothing from the service${seconds(now - lastEventAt)}. ${connected ? "" : "Connecting again."}`);
    $("state").className = "state";
    show("state-word", "no connection");
  } else if (status && status.state !== "running") {
    show("stale", `${status.state.toUpperCase()}: ${status.problem || (status.state === "ended" ? "the recording is over" : "no samples yet")}`);
  } else {
    const samples = !(now - lastArrayAt < STALE_MS);
    show("stale", `STALE: no ${samples ? "sample" : "prediction"}${seconds(now - (samples ? lastArrayAt : lastPredictionAt))}`);
  }
  const last = trace.at(-1);
  show("value", "–");
  $("value").parentElement.classList.add("void");
  show("meaning", last && last.p !== null ? `the last one was ${last.p.toFixed(2)}` : "no prediction");
}

// ---- array map ------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
// Anchors of cividis (envelope) and of a blue–dark–orange map with its dark middle at zero (z): both safe for colour-blind eyes.
const ENVELOPE = [[0, 32, 76], [40, 61, 108], [87, 93, 109], [124, 123, 120], [166, 157, 117], [211, 193, 100], [255, 233, 69]];
const Z = [[158, 202, 255], [74, 144, 217], [31, 74, 122], [20, 24, 31], [122, 68, 28], [222, 130, 50], [255, 205, 140]];

function colour(map, x) {
  const at = Math.min(1, Math.max(0, x)) * (map.length - 1), i = Math.min(map.length - 2, Math.floor(at)), f = at - i;
  return `rgb(${map[i].map((v, k) => Math.round(v + f * (map[i + 1][k] - v))).join(" ")})`;
}

let sites = [], placedFor = "";

function place() {
  const key = JSON.stringify(array.positions) + array.labels.length;
  if (key === placedFor) return;
  placedFor = key;
  const side = Math.max(10, Math.ceil(Math.sqrt(array.labels.length)));
  const positions = array.positions ?? array.labels.map((_, i) => [i % side, Math.floor(i / side)]);
  const low = [0, 1].map((axis) => Math.min(...positions.map((p) => p[axis])));
  const steps = [0, 1].map((axis) => step(positions.map((p) => p[axis])));
  const cells = positions.map((p) => [0, 1].map((axis) => Math.round((p[axis] - low[axis]) / steps[axis])));
  const size = Math.max(10, ...cells.flat().map((v) => v + 1)), unit = 100 / size;
  const map = $("map");
  map.replaceChildren(hatch());
  const taken = new Set(cells.map(String));
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) if (!taken.has(String([x, y]))) map.append(square(x, y, unit, "url(#hatch)"));
  sites = cells.map(([x, y], i) => {
    const rect = square(x, y, unit, "#1c2430");
    rect.classList.add("site");
    rect.setAttribute("role", "gridcell");
    rect.setAttribute("tabindex", i === 0 ? "0" : "-1");
    rect.onmouseenter = rect.onfocus = () => { chosen = i; showChannel(); };
    rect.onkeydown = (event) => move(event, i);
    const cross = [[x + 0.2, y + 0.2, x + 0.8, y + 0.8], [x + 0.8, y + 0.2, x + 0.2, y + 0.8]].map(([x1, y1, x2, y2]) => line(x1 * unit, y1 * unit, x2 * unit, y2 * unit));
    map.append(rect, ...cross);
    return { rect, cross, x, y };
  });
}

function step(values) {
  const sorted = [...new Set(values)].sort((a, b) => a - b);
  return Math.min(...sorted.slice(1).map((v, i) => v - sorted[i]), Infinity) || 1;
}

function hatch() {
  const pattern = document.createElementNS(SVG, "pattern");
  for (const [k, v] of Object.entries({ id: "hatch", width: 2.4, height: 2.4, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" })) pattern.setAttribute(k, v);
  const stroke = line(0, 0, 0, 2.4);
  stroke.classList.add("hatch");
  pattern.append(stroke);
  return pattern;
}

function square(x, y, unit, fill) {
  const rect = document.createElementNS(SVG, "rect");
  for (const [k, v] of Object.entries({ x: x * unit + 0.3, y: y * unit + 0.3, width: unit - 0.6, height: unit - 0.6, rx: 0.8, fill })) rect.setAttribute(k, v);
  return rect;
}

function line(x1, y1, x2, y2) {
  const node = document.createElementNS(SVG, "line");
  for (const [k, v] of Object.entries({ x1, y1, x2, y2 })) node.setAttribute(k, v);
  return node;
}

let chosen = null;

function move(event, i) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (!dx && !dy) return;
  event.preventDefault();
  let { x, y } = sites[i];
  for (let k = 0; k < 12; k++) {
    x += dx; y += dy;
    const next = sites.findIndex((site) => site.x === x && site.y === y);
    if (next >= 0) {
      sites[i].rect.setAttribute("tabindex", "-1");
      sites[next].rect.setAttribute("tabindex", "0");
      sites[next].rect.focus();
      return;
    }
  }
}

function showArray() {
  place();
  const values = showZ ? array.z : array.envelope_uv;
  const known = array.envelope_uv.filter((v, i) => v !== null && array.usable[i]).sort((a, b) => a - b);
  if (known.length) {   // the envelope's scale follows the 98th percentile in round steps, so that colours hold still
    const wanted = nice(known[Math.floor(0.98 * (known.length - 1))] * 1.05);
    if (wanted > ceiling || wanted < 0.6 * ceiling) ceiling = wanted;
  }
  const [map, low, high] = showZ ? [Z, -3, 3] : [ENVELOPE, 0, ceiling];
  let dead = 0;
  sites.forEach((site, i) => {
    const usable = array.usable[i];
    dead += usable ? 0 : 1;
    site.rect.setAttribute("fill", usable && values[i] !== null ? colour(map, (values[i] - low) / (high - low)) : "#1c2430");
    for (const bar of site.cross) bar.style.display = usable ? "none" : "";
    site.rect.setAttribute("aria-label", describe(i));
  });
  show("scale-low", showZ ? "−3" : "0");
  show("scale-high", showZ ? "3 z" : `${ceiling} µV`);
  $("map").setAttribute("aria-label", `Electrode array: ${sites.length - dead} of ${sites.length} channels used; arrow keys move`);
  showChannel();
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-3)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((m) => m * power).find((m) => m >= value) ?? 10 * power;
}

function describe(i) {
  return `${array.labels[i]}: ${number(array.envelope_uv[i])} µV, z ${number(array.z[i], 2)}${array.usable[i] ? "" : ", not used"}`;
}

function showChannel() {
  if (chosen !== null && array && chosen < array.labels.length) show("channel", describe(chosen));
}

function choose(z) {
  showZ = z;
  for (const [id, on] of [["show-envelope", !z], ["show-z", z]]) {
    $(id).setAttribute("aria-checked", String(on));
    $(id).tabIndex = on ? 0 : -1;
  }
  const context = $("scale").getContext("2d");
  for (let x = 0; x < 256; x++) { context.fillStyle = colour(z ? Z : ENVELOPE, x / 255); context.fillRect(x, 0, 1, 1); }
  if (array) showArray();
}

// ---- trace ----------------------------------------------------------------------------------------------------------

function draw() {
  const canvas = $("trace"), ratio = devicePixelRatio || 1, { width, height } = canvas.getBoundingClientRect();
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  const left = 34, right = 10, top = 14, bottom = 22;
  // The right edge is now: when predictions stop, the trace moves on and leaves the emptiness to be seen.
  const end = clockOffset === null ? 0 : performance.now() / 1000 - clockOffset;
  const x = (time) => width - right - (end - time) * (width - left - right) / SPAN_S;
  const y = (p) => height - bottom - p * (height - top - bottom);

  g.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  g.lineWidth = 1;
  g.textBaseline = "middle";
  for (const p of [0, 0.25, 0.5, 0.75, 1]) {
    g.strokeStyle = p === 0.5 ? "#334154" : "#1c2430";
    g.beginPath(); g.moveTo(left, y(p)); g.lineTo(width - right, y(p)); g.stroke();
    g.fillStyle = "#93a1b3"; g.textAlign = "right"; g.fillText(p.toString(), left - 6, y(p));
  }
  g.textBaseline = "alphabetic";
  for (let s = 0; s <= SPAN_S; s += 5) {
    g.textAlign = s === 0 ? "right" : "center";
    g.fillStyle = "#93a1b3";
    g.fillText(s === 0 ? "now" : `−${s} s`, x(end - s), height - 6);
  }
  g.save();
  g.beginPath(); g.rect(left, 0, width - left - right, height - bottom + 1); g.clip();
  drawVoids(g, x, y);
  drawThresholds(g, x, y, left, width - right);
  drawMarks(g, x, y);
  drawLine(g, x, y);
  g.restore();
}

function drawLine(g, x, y) {   // every prediction thin, their mean over the last second bold, both broken where nothing is vouched for
  g.strokeStyle = g.fillStyle = "#f4d35e";
  g.lineJoin = "round";
  const line = (width, alpha, value) => {
    g.lineWidth = width;
    g.globalAlpha = alpha;
    g.beginPath();
    let before = null;
    for (const [i, point] of trace.entries()) {
      if (point.p === null) before = null;
      if (point.p === null || point.mode === "evoked") continue;
      if (before !== null && point.time - before < 0.5) g.lineTo(x(point.time), y(value(i))); else g.moveTo(x(point.time), y(value(i)));
      before = point.time;
    }
    g.stroke();
    g.globalAlpha = 1;
  };
  let from = 0, sum = 0, n = 0;
  const means = trace.map((point) => {
    if (point.p !== null) { sum += point.p; n += 1; }
    for (; trace[from].time < point.time - 1; from++) if (trace[from].p !== null) { sum -= trace[from].p; n -= 1; }
    return n ? sum / n : null;
  });
  line(1, 0.4, (i) => trace[i].p);
  line(2.4, 1, (i) => means[i]);
  for (const point of trace) if (point.mode === "evoked" && point.p !== null) { g.beginPath(); g.arc(x(point.time), y(point.p), 3.5, 0, 7); g.fill(); }
}

function drawTrigger(g, mark, at, foot) {   // a triangle; filled where a pulse was asked for; a diamond in shadow
  g.save();
  g.strokeStyle = g.fillStyle = mark.kind === "would_fire" ? "#79b8ff" : "#7fd1ae";
  g.lineWidth = 1.6;
  g.beginPath();
  if (mark.kind === "would_fire") { g.moveTo(at, foot - 12); g.lineTo(at + 5, foot - 6); g.lineTo(at, foot); g.lineTo(at - 5, foot - 6); }
  else { g.moveTo(at, foot - 11); g.lineTo(at + 6, foot); g.lineTo(at - 6, foot); }
  g.closePath();
  if (mark.kind === "trigger") g.fill(); else g.stroke();
  if (mark.kind === "refused") { g.beginPath(); g.moveTo(at - 6, foot); g.lineTo(at + 6, foot - 11); g.stroke(); }
  if (mark.arm) { g.textAlign = "left"; g.fillText(mark.arm.slice(0, 3), at + 8, foot - 2); }
  g.restore();
}

function drawThresholds(g, x, y, left, right) {
  const state = trigger();
  if (!state?.limits || state.plan?.blind || HERE !== "first") return;   // the trigger decides on the first array
  g.save();
  g.lineWidth = 1;
  g.strokeStyle = "#7fd1ae";
  for (const [p, dash] of [[state.thresholds.p_on, [6, 4]], [state.thresholds.p_off, [2, 4]]]) {
    g.globalAlpha = 0.55;
    g.setLineDash(dash);
    g.beginPath(); g.moveTo(left, y(p)); g.lineTo(right, y(p)); g.stroke();
  }
  g.restore();
}

function drawVoids(g, x, y) {   // stretches without a probability, hatched, with their reason
  let start = null;
  const close = (end) => {
    const from = x(start.time), wide = Math.max(2, x(end) - from);
    g.fillStyle = "#93a1b314";
    g.fillRect(from, y(1), wide, y(0) - y(1));
    g.save();
    g.beginPath(); g.rect(from, y(1), wide, y(0) - y(1)); g.clip();
    g.strokeStyle = "#93a1b338"; g.lineWidth = 1; g.beginPath();
    for (let d = -400; d < wide + 400; d += 8) { g.moveTo(from + d, y(0)); g.lineTo(from + d + (y(0) - y(1)), y(1)); }
    g.stroke();
    g.restore();
    const text = REASONS[start.reason] ?? start.reason, size = g.measureText(text).width;
    if (wide > 16) {   // along the stretch where it fits, else upwards
      g.save();
      g.translate(from + wide / 2, y(0.5));
      if (size + 12 > wide) g.rotate(-Math.PI / 2);
      g.textAlign = "center"; g.fillStyle = "#11161e"; g.fillRect(-size / 2 - 5, -9, size + 10, 18);
      g.fillStyle = "#c3cdd9"; g.fillText(text, 0, 4);
      g.restore();
    }
    start = null;
  };
  let last = null;
  for (const point of trace) {
    if (start && (point.p !== null || point.reason !== start.reason)) close(point.time);
    if (point.p === null && !start) start = point;
    last = point;
  }
  if (start && last) close(last.time);
}

function drawMarks(g, x, y) {
  g.strokeStyle = g.fillStyle = "#79b8ff";
  for (const mark of marks) {
    const at = x(mark.time);
    if (mark.kind === "stim") {
      g.lineWidth = 1.2;
      g.beginPath(); g.moveTo(at, y(0)); g.lineTo(at, y(1) - 3); g.stroke();
    } else if (mark.kind !== "yes" && mark.kind !== "no") {
      drawTrigger(g, mark, at, y(0) - 1);
    } else {
      g.lineWidth = 2;
      g.beginPath(); g.arc(at, y(1) - 6, 4, 0, 7);
      if (mark.kind === "yes") g.fill(); else g.stroke();
    }
  }
}

// ---- go -------------------------------------------------------------------------------------------------------------

let drawnAt = 0;
function frame(now) {
  if (now - drawnAt > 1000 / FRAMES_PER_S - 4) { drawnAt = now; draw(); }
  requestAnimationFrame(frame);
}

$("show-envelope").onclick = () => choose(false);
$("show-z").onclick = () => choose(true);
document.querySelector(".choice").onkeydown = (event) => {
  if (["ArrowLeft", "ArrowRight"].includes(event.key)) { choose(!showZ); $(showZ ? "show-z" : "show-envelope").focus(); }
};
choose(true);
beginTrigger();
begin();
setInterval(showStale, 50);
setInterval(showValue, 250);   // four times a second can be read
requestAnimationFrame(frame);
