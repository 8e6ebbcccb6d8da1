// The trigger's strip: what state it is in, why it does not fire, and the controls. It shows the service's state and
// nothing it hopes for; arming is two steps; the lease is renewed only while somebody can see this page. STOP and
// Disarm work whatever else does not.

const $ = (id) => document.getElementById(id);
const show = (id, text) => { const node = $(id); if (node.textContent !== text) node.textContent = text; };
const LIVE = ["ARMED", "REFRACTORY"], RENEW_MS = 500, SLOW_MS = 2000, SILENT_S = 0.8;
// what an armed trigger waits for as a matter of course; any other reason is a condition that does not hold
const WAITING = ["THRESHOLD", "DWELL", "WAIT", "REFRACTORY", "UNSETTLED", ""];

let state = null, heardAt = -Infinity, confirmToken = null, leaseToken = null, refusal = "", beating = false;

export const current = () => state;

export function showTrigger(told) {
  state = told;
  heardAt = performance.now();
  if (state.state !== "ARMING") confirmToken = null;
  if (!LIVE.includes(state.state)) leaseToken = null;
  show("t-word", state.state);
  $("trigger").dataset.state = state.state;
  $("trigger").classList.toggle("held", state.state === "ARMED" && !WAITING.includes(state.reason));
  show("t-limits", limits());
  showBudgets();
  showHits();
  refresh();
}

export function refresh() {   // what depends on time and on the page: countdowns, and which buttons may be pressed
  if (!state) return;
  const stale = document.body.classList.contains("stale"), now = state.state, aged = (performance.now() - heardAt) / 1000;
  const idle = ["DISARMED", "SHADOW"].includes(now), mine = confirmToken !== null;
  const silent = aged > SILENT_S;
  $("trigger").classList.toggle("silent", silent);
  show("t-why", refusal || (silent ? `nothing heard for ${aged.toFixed(1)} s; this was the last that was known` : why(aged)));
  $("t-why").classList.toggle("refused", refusal !== "");
  $("t-arm").disabled = stale || !idle || state.problems.length > 0 || !state.limits;
  $("t-shadow").disabled = stale || now !== "DISARMED" || !state.limits;
  $("t-arm").hidden = mine || now === "FAULT";
  $("t-shadow").hidden = now === "FAULT";
  $("t-confirm").hidden = !mine;
  $("t-confirm").disabled = stale;
  show("t-confirm", `Confirm ${Math.max(0, (state.confirm_s ?? 0) - aged).toFixed(0)} s`);
  for (const id of ["t-clear", "t-reason"]) $(id).hidden = now !== "FAULT";
  $("t-clear").disabled = stale || $("t-reason").value.trim() === "";
}

function why(aged) {
  const now = state.state, left = (seconds) => Math.max(0, seconds - aged).toFixed(1);
  if (now === "FAULT") return `latched: ${state.because}. Look at it, say what it was, and clear it.`;
  if (now === "ARMING" && confirmToken) return `Arm under \u201c${state.limits.name}\u201d, sha256 ${state.limits.sha256.slice(0, 12)}\u2026, with ${device()}?`;
  if (now === "ARMING") return "another operator is arming it";
  if (LIVE.includes(now)) {
    const whose = leaseToken ? "" : " (another client holds it)";
    if (now === "REFRACTORY") return `next pulse in ${left(state.refractory_s ?? 0)} s at the earliest${whose}`;
    if (state.plan?.blind) return `a blind experiment runs${whose}`;
    return (state.reason ? state.why : "now") + whose;
  }
  if (state.problems.length) return `cannot be armed: ${state.problems.join("; ")}`;
  return now === "SHADOW" ? `nothing leaves; ${state.would_fire} would have fired. Now: ${state.why}` : `may be armed with ${device()}. Last: ${state.because}`;
}

const device = () => `${state.device.name}${state.device.simulated ? " (simulated)" : ""}`;

function limits() {
  if (!state.limits) return "no valid limits file";
  const plan = state.plan ? `, trial ${state.plan.next + 1}` : "";
  return `\u201c${state.limits.name}\u201d ${state.limits.sha256.slice(0, 12)}${state.limits.simulated_only ? ", simulated only" : ""}${plan}`;
}

function showBudgets() {
  const budget = state.limits?.budget;
  if (!budget) { $("t-budgets").replaceChildren(); return; }
  const worst = Object.entries(state.charge_today_uc).sort((a, b) => b[1] - a[1])[0] ?? ["–", 0];
  const live = LIVE.includes(state.state);
  const rows = [
    ["this minute", `${state.pulses_minute} / ${budget.pulses_per_minute}`, state.pulses_minute / budget.pulses_per_minute],
    ["this session", `${state.pulses_session} / ${budget.pulses_per_session}`, state.pulses_session / budget.pulses_per_session],
    [`today, e${worst[0]}`, `${worst[1].toFixed(1)} / ${budget.charge_per_electrode_day_uc} µC`, worst[1] / budget.charge_per_electrode_day_uc],
    ["refractory", state.refractory_s === null ? "–" : `${state.refractory_s.toFixed(1)} s`, (state.refractory_s ?? 0) / budget.refractory_s],
    ["lease", live ? `${state.lease_age_s.toFixed(1)} s` : "–", live ? state.lease_age_s / 3 : 0],
  ];
  $("t-budgets").replaceChildren(...rows.map(([name, text, share]) => {
    const pair = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd"), bar = document.createElement("span");
    term.textContent = name;
    value.textContent = text;
    bar.className = share > 0.8 && name !== "refractory" ? "bar near" : "bar";
    bar.style.setProperty("--share", Math.min(1, share));
    pair.append(term, value, bar);
    return pair;
  }));
}

function showHits() {
  $("hits").hidden = state.hits.length === 0;
  $("hits-rows").replaceChildren(...state.hits.map((arm) => {
    const row = document.createElement("tr"), head = document.createElement("th"), track = document.createElement("td"), range = document.createElement("span");
    const cell = (text) => { const one = document.createElement("td"); one.textContent = text; return one; };
    head.scope = "row";
    head.textContent = arm.arm;
    const [low, high] = arm.interval ?? [0, 1], percent = (x) => Math.round(100 * x);
    range.className = "range";
    for (const [key, value] of [["--low", low], ["--high", high], ["--rate", arm.rate ?? 0.5]]) range.style.setProperty(key, value);
    range.classList.toggle("unknown", arm.rate === null);
    track.append(range);
    row.append(head, cell(`${arm.perceived} of ${arm.answered} seen`), cell(arm.rate === null ? "–" : `${percent(arm.rate)} %`), track,
      cell(arm.rate === null ? "" : `${percent(low)}–${percent(high)}`), cell(arm.shams ? `${arm.shams} sham` : ""));
    return row;
  }));
}

// ---- controls -------------------------------------------------------------------------------------------------------

async function ask(path, body, keepalive = false) {
  const answer = await fetch(`v1/trigger/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), keepalive, signal: AbortSignal.timeout(SLOW_MS) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail ?? `status ${answer.status}`);
  return told;
}

async function attempt(what) {
  refusal = "";
  try { await what(); } catch (error) { refusal = error.message; setTimeout(() => { refusal = ""; refresh(); }, 8000); }
  refresh();
}

const arm = () => attempt(async () => { confirmToken = (await ask("arm", { limits_sha256: state.limits.sha256 })).confirm_token; });
const confirm = () => attempt(async () => {
  const token = confirmToken;
  confirmToken = null;
  leaseToken = (await ask("confirm", { confirm_token: token })).lease_token;
});
const disarm = () => attempt(async () => showTrigger(await ask("disarm", { reason: "Disarm on the page" }, true)));
const shadow = () => attempt(async () => showTrigger(await ask("shadow", {})));
const clear = () => attempt(async () => { showTrigger(await ask("clear", { reason: $("t-reason").value.trim() })); $("t-reason").value = ""; });

async function stop() {
  leaseToken = confirmToken = null;
  try {
    showTrigger(await ask("disarm", { stop: true, reason: "STOP on the page" }, true));
    refusal = "";
  } catch (error) {
    refusal = `STOP WAS NOT ANSWERED (${error.message}). Use the hardware stop.`;
  }
  refresh();
}

async function beat() {   // only while somebody can see the page
  if (leaseToken === null || beating || document.visibilityState !== "visible") return;
  beating = true;
  try { await ask("heartbeat", { lease_token: leaseToken }); } catch { /* the state that comes says what became of it */ }
  beating = false;
}

export function begin() {
  $("t-arm").onclick = arm;
  $("t-confirm").onclick = confirm;
  $("t-disarm").onclick = disarm;
  $("t-shadow").onclick = shadow;
  $("t-clear").onclick = clear;
  $("t-stop").onclick = stop;
  $("t-reason").oninput = refresh;
  window.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); stop(); } }, true);
  setInterval(beat, RENEW_MS);
  setInterval(refresh, 200);
}
