// What the service has said so far. The parts of the page read it here and hear of news by `on`; nobody guesses.

export const SPAN_S = 30, STALE_MS = 1000;
export const LIVE = ["ARMED", "REFRACTORY"];
const KEPT_S = SPAN_S + 2;

export const known = { status: null, trigger: null, array: null, preview: null };
export const heard = { prediction: -Infinity, event: -Infinity, array: -Infinity, trigger: -Infinity };   // moments
export const trace = [];     // {time, p, reason, mode}, oldest first
export const marks = [];     // {time, kind: "stim" | "yes" | "no" | "trigger" | "sham" | "would_fire" | "refused", arm}
export const frames = [];    // {time, envelope_uv, z, noise_uv}: the array over the last 30 s
let runId = null, lastHappened = -1, clockOffset = null, arrayIsFresh = false;

const listeners = {};
export const on = (kind, call) => (listeners[kind] ??= []).push(call);
export const tell = (kind, message) => { for (const call of listeners[kind] ?? []) call(message); };

export const stale = () => document.body.classList.contains("stale");
export const armed = () => known.trigger !== null && [...LIVE, "ARMING"].includes(known.trigger.state);
// The right edge of every plot is now: where nothing comes, the emptiness is to be seen.
export const now = () => (clockOffset === null ? 0 : performance.now() / 1000 - clockOffset);

export function addPrediction(message) {
  const at = performance.now(), offset = at / 1000 - message.sample_time;
  if (message.run_id !== runId) { runId = message.run_id; trace.length = 0; clockOffset = null; }
  heard.prediction = at;
  if (clockOffset === null || Math.abs(offset - clockOffset) > 2) {   // the source's clock began anew
    if (clockOffset !== null && trace.length && message.sample_time < trace.at(-1).time) trace.length = marks.length = 0;
    clockOffset = offset;
  }
  clockOffset = Math.min(clockOffset + 0.0005, offset);
  const reason = message.flags[0] ?? (known.trigger?.plan?.blind ? "blind" : "no probe");
  trace.push({ time: message.sample_time, p: message.probability, reason, mode: message.mode });
  for (const kept of [trace, marks]) while (kept.length && kept[0].time < message.sample_time - KEPT_S) kept.shift();
}

export function addEvent(message) {
  heard.event = performance.now();
  if (message.type === "status") {
    if (known.status && known.status.run_id !== message.run_id) { marks.length = frames.length = 0; lastHappened = -1; }
    known.status = message;
  } else if (message.type === "trigger_state") {
    heard.trigger = heard.event;
    known.trigger = message;
  } else if (message.type === "array") {   // comes only while samples come; the first after connecting may be old
    if (arrayIsFresh) heard.array = heard.event;
    arrayIsFresh = true;
    known.array = message;
    frames.push({ time: heard.event / 1000, envelope_uv: message.envelope_uv, z: message.z, noise_uv: message.noise_uv });
    while (frames[0].time < heard.event / 1000 - KEPT_S) frames.shift();
  } else {
    if (message.event_seq <= lastHappened) return;   // told again after a reconnect
    lastHappened = message.event_seq ?? lastHappened;
    addMark(message);
    tell("happened", message);
    return;
  }
  tell(message.type, message);
}

function addMark(message) {
  const { type, sample_time: time, arm } = message;
  if (type === "stim") marks.push({ time, kind: "stim" });
  if (type === "report") marks.push({ time, kind: message.perceived ? "yes" : "no" });
  if (["trigger", "sham", "would_fire"].includes(type)) marks.push({ time, kind: message.refused ? "refused" : type, arm });
}

export function disconnected() { arrayIsFresh = false; }
