// The trigger's strip: its state, why it does not fire, and the controls. It shows the service's state and nothing it
// hopes for; arming is two steps; the lease is renewed only while somebody can see this page. STOP works whatever else
// does not, and says when it was not answered.

import { $, show } from "./dom.js";
import { ask } from "./link.js";
import { addEvent, heard, known, LIVE, on, stale, STALE_MS } from "./state.js";

const RENEW_MS = 500, REFUSED_MS = 8000;
// what an armed trigger waits for as a matter of course; any other reason is a condition that does not hold
export const WAITING = ["THRESHOLD", "DWELL", "WAIT", "REFRACTORY", "UNSETTLED", ""];

let confirmToken = null, leaseToken = null, refusal = "", undelivered = "", beating = false;

function showState(state) {
  if (state.state !== "ARMING") confirmToken = null;
  if (!LIVE.includes(state.state)) leaseToken = null;
  if (![...LIVE, "ARMING"].includes(state.state)) undelivered = "";
  $("trigger").dataset.state = state.state;
  $("trigger").classList.toggle("held", state.state === "ARMED" && !WAITING.includes(state.reason));
  refresh();
}

export function refresh() {   // what depends on time and on the page: countdowns, and which buttons may be pressed
  const state = known.trigger;
  $("trigger").classList.toggle("undelivered", undelivered !== "");
  if (!state) { show("t-why", undelivered || "nothing heard of the trigger yet"); lock(true); return; }
  const aged = (performance.now() - heard.trigger) / 1000, silent = aged * 1000 > STALE_MS;
  $("trigger").classList.toggle("silent", silent);
  show("t-word", silent ? `${state.state} ?` : state.state);
  const last = `nothing heard for ${aged.toFixed(1)} s; this was the last that was known`;
  show("t-why", undelivered || refusal || (silent ? last : why(state, aged)));
  $("t-why").classList.toggle("refused", refusal !== "");
  lock(stale() || silent);
  const mine = confirmToken !== null, fault = state.state === "FAULT";
  $("t-arm").disabled ||= !["DISARMED", "SHADOW"].includes(state.state) || state.problems.length > 0 || !state.limits;
  $("t-shadow").disabled ||= state.state !== "DISARMED" || !state.limits;
  $("t-clear").disabled ||= $("t-reason").value.trim() === "";
  $("t-disarm").disabled = silent;   // not while only the samples are stale
  $("t-arm").hidden = mine || fault;
  $("t-shadow").hidden = $("t-disarm").hidden = fault;
  $("t-confirm").hidden = !mine;
  for (const id of ["t-clear", "t-reason"]) $(id).hidden = !fault;
  show("t-confirm", `Confirm ${Math.max(0, (state.confirm_s ?? 0) - aged).toFixed(0)} s`);
}

function lock(locked) { for (const id of ["t-arm", "t-shadow", "t-confirm", "t-clear", "t-disarm"]) $(id).disabled = locked; }

function why(state, aged) {
  const now = state.state, device = `${state.device.name}${state.device.simulated ? " (simulated)" : ""}`;
  if (now === "FAULT") return `Latched: ${state.because}. Look at it, say what it was, and clear it.`;
  if (now === "ARMING" && !confirmToken) return "Another operator is arming it.";
  if (now === "ARMING") return `Arm under \u201c${state.limits.name}\u201d, sha256 ${state.limits.sha256.slice(0, 12)}\u2026, with ${device}?`;
  if (LIVE.includes(now)) {
    const whose = leaseToken ? "" : " (another client holds it)";
    if (now === "REFRACTORY") return `The next pulse in ${Math.max(0, (state.refractory_s ?? 0) - aged).toFixed(1)} s at the earliest${whose}.`;
    if (state.plan?.blind) return `A blind experiment runs${whose}.`;
    return `${state.reason ? `Not yet: ${state.why}` : "Now"}${whose}.`;
  }
  const barred = state.problems.length ? `Cannot be armed: ${state.problems.join("; ")}.` : "";
  if (now === "SHADOW") return `Nothing leaves. ${state.would_fire} would have fired.${state.why ? ` Not now: ${state.why}.` : ""} ${barred}`;
  return barred || `May be armed with ${device}. Last: ${state.because}.`;
}

async function attempt(what) {
  refusal = "";
  try { await what(); } catch (error) { refusal = error.message; setTimeout(() => { refusal = ""; refresh(); }, REFUSED_MS); }
  refresh();
}

const command = (path, body, options) => ask("POST", `v1/trigger/${path}`, body, options);
const take = (state) => addEvent({ type: "trigger_state", ...state });

const arm = () => attempt(async () => { confirmToken = (await command("arm", { limits_sha256: known.trigger.limits.sha256 })).confirm_token; });
const confirm = () => attempt(async () => {
  const token = confirmToken;
  confirmToken = null;
  leaseToken = (await command("confirm", { confirm_token: token })).lease_token;
});
const disarm = () => attempt(async () => take(await command("disarm", { reason: "Disarm on the page" }, { keepalive: true })));
const shadow = () => attempt(async () => take(await command("shadow", {})));
const clear = () => attempt(async () => { take(await command("clear", { reason: $("t-reason").value.trim() })); $("t-reason").value = ""; });

async function stop() {
  leaseToken = confirmToken = null;
  refusal = "";
  try {
    take(await command("disarm", { stop: true, reason: "STOP on the page" }, { keepalive: true }));
  } catch (error) {
    undelivered = `STOP WAS NOT DELIVERED (${error.message}). Use the hardware stop.`;
  }
  refresh();
}

async function beat() {   // only while somebody can see the page
  if (leaseToken === null || beating || document.visibilityState !== "visible") return;
  beating = true;
  try { await command("heartbeat", { lease_token: leaseToken }); } catch { /* the state that comes says what became of it */ }
  beating = false;
}

function onKey(event) {   // before any button or field sees it; a text takes its spaces
  const writes = event.key === " " && event.target.matches?.("input[type=text]");
  if (event.key !== "Escape" && (event.key !== " " || writes)) return;
  event.preventDefault();
  event.stopPropagation();
  if (event.type === "keydown" && !event.repeat) stop();
}

export function begin() {
  on("trigger_state", showState);
  on("stale", refresh);
  for (const [id, call] of Object.entries({ arm, confirm, disarm, shadow, clear, stop })) $(`t-${id}`).onclick = call;
  $("t-reason").oninput = refresh;
  for (const type of ["keydown", "keyup"]) window.addEventListener(type, onKey, true);
  setInterval(beat, RENEW_MS);
  setInterval(refresh, 200);
}
