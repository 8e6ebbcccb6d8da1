// Which bundle runs, and one that shadows it: how far they agree, how fast it is, and what may become of it.

import { $, element, number, pair, show } from "./dom.js";
import { ask } from "./link.js";
import { armed, known, on, stale } from "./state.js";

const SHADOW_S = 60, LOOK_MS = 1000, SLOW_MS = 30000;   // a bundle is opened and warmed before the answer comes
let models = null, busy = false;

async function look() {
  try { models = await ask("GET", "v1/models"); } catch { return; }   // the stale bar says what there is to say
  showModels();
}

function showModels() {
  const { active, candidate, before, last, models: all } = models, names = all.map((one) => one.name);
  if (String([...$("b-name").options].map((one) => one.value)) !== String(names)) {
    $("b-name").replaceChildren(...names.map((name) => element("option", name)));
    $("b-name").value = names.find((name) => name !== active) ?? active;
  }
  show("tab-bundle", candidate ? "Bundle ◐" : "Bundle");
  show("b-head", candidate ? `${candidate.name} shadows ${active}: ${candidate.s_left.toFixed(0)} s left` : `${active} runs; nothing shadows it`);
  const inference = known.status?.latency_ms?.inference, ms = (x) => `${number(x, 2)} ms`;
  $("b-facts").replaceChildren(...(candidate ? [
    pair("correlation", number(candidate.correlation, 2)),
    pair("inference p50", ms(candidate.p50_ms)),
    pair("mean |difference|", number(candidate.mean_absolute_difference, 3)),
    pair("p99", ms(candidate.p99_ms)),
    pair("mean difference", number(candidate.mean_difference, 3)),
    pair("running, p50", ms(inference?.p50)),
    pair("compared", `${candidate.compared} of ${candidate.windows}`),
    pair("passed by", String(candidate.passed_by)),
    pair("not finite", String(candidate.not_finite), candidate.not_finite > 0),
    pair("problem", candidate.problem || "none", Boolean(candidate.problem)),
  ] : [pair("running", active), pair("before it", before ?? "none")]));
  show("b-last", last ? `${last.name}: ${last.what}, ${last.why}` : "");
  refresh();
}

function refresh() {
  const locked = stale() || busy || armed() || !models;
  $("b-shadow").disabled = $("b-promote").disabled = locked;
  $("b-drop").disabled = stale() || busy || !models?.candidate;
  $("b-back").disabled = locked || !models.before;
  $("b-name").disabled = locked;
  $("b-name").hidden = $("b-shadow").hidden = $("b-back").hidden = Boolean(models?.candidate);
  $("b-drop").hidden = !models?.candidate;
}

async function attempt(path, body) {
  busy = true;
  refresh();
  try { await ask("POST", `v1/models/${path}`, body, { signal: AbortSignal.timeout(SLOW_MS) }); await look(); } catch (error) { show("b-last", error.message); }
  busy = false;
  refresh();
}

const chosen = () => encodeURIComponent(models.candidate?.name ?? $("b-name").value);

export function begin() {
  on("happened", ({ type }) => { if (type === "bundle") look(); });
  on("trigger_state", refresh);
  on("stale", (is) => { if (!is) look(); refresh(); });
  $("b-shadow").onclick = () => attempt(`${chosen()}/activate`, { shadow_s: SHADOW_S });
  $("b-promote").onclick = () => attempt(`${chosen()}/activate`, {});
  $("b-drop").onclick = () => attempt("drop", {});
  $("b-back").onclick = () => attempt("rollback", {});
  setInterval(() => { if (models?.candidate && document.visibilityState === "visible") look(); }, LOOK_MS);
}
