// The two WebSockets and the requests, all by addresses relative to the page; and whether what is shown is stale.

import { show } from "./dom.js";
import { addEvent, addPrediction, disconnected, heard, known, SPAN_S, STALE_MS, tell, trace } from "./state.js";

const SLOW_MS = 2000, SHOWN_HZ = 30;
let connected = 0, loggedOut = false, attempts = 0, lastSeq = null, told = null;

export async function ask(method, path, body, options = {}) {   // the answer, or an Error in the service's own words
  const headers = { "Content-Type": "application/json" };
  const sent = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(SLOW_MS), ...options };
  const answer = await fetch(path, sent), told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail ?? `the service answered ${answer.status}`);
  return told;
}

function listen(path, onMessage, wait = 250) {
  const url = new URL(path(), document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  let open = false;
  socket.onopen = () => { open = true; wait = 250; connected += 1; loggedOut = false; attempts = 0; };
  socket.onmessage = (event) => onMessage(JSON.parse(event.data));
  socket.onclose = (event) => {
    if (open) connected -= 1;
    loggedOut ||= event.code === 1008;
    attempts += 0.5;   // two sockets
    disconnected();
    setTimeout(() => listen(path, onMessage, Math.min(4000, wait * 2)), wait * (0.8 + 0.4 * Math.random()));
  };
}

export async function connect() {
  let since = -1;
  try {
    since = Math.max(-1, (await ask("GET", "v1/status")).next_seq - SPAN_S * 100);
  } catch { /* the sockets below keep trying */ }
  listen(() => `v1/predictions?format=json&fields=probability&max_hz=${SHOWN_HZ}&since_seq=${lastSeq ?? since}`, (message) => {
    if (message.type !== "prediction") return;
    lastSeq = message.seq;
    addPrediction(message);
  });
  listen(() => "v1/events", addEvent);
}

export function showStale() {
  const at = performance.now(), evoked = trace.at(-1)?.mode === "evoked";   // which predicts only after a stimulation
  const silent = !(at - heard.event < STALE_MS), samples = at - heard.array < STALE_MS;
  const stale = silent || !samples || !(evoked || at - heard.prediction < STALE_MS);
  document.body.classList.toggle("stale", stale);
  document.body.classList.toggle("silent", silent);
  show("link", connected === 2 ? "connected" : `not connected, attempt ${Math.ceil(attempts)}`);
  if (stale) show("stale", whyStale(at, silent, samples));
  const both = `${stale} ${silent}`;
  if (both !== told) { told = both; tell("stale", stale); }
}

function whyStale(at, silent, samples) {
  const seconds = (moment) => (Number.isFinite(moment) ? ` for ${((at - moment) / 1000).toFixed(1)} s` : "");
  if (silent) return `STALE: nothing from the service${seconds(heard.event)}${connected ? "" : loggedOut ? "; your login does not hold any more: load this page again" : "; connecting again"}`;
  const { state, problem } = known.status ?? {};
  if (state && state !== "running") return `${state.toUpperCase()}: ${problem || (state === "ended" ? "the recording is over" : "no samples yet")}`;
  return `STALE: no ${samples ? "prediction" : "sample"}${seconds(samples ? heard.prediction : heard.array)}`;
}
