// What has been spent and what is left: pulses, charge, rest, lease; and the hit rate of each arm.

import { $, element, number, percent, show } from "./dom.js";
import { LIVE, on } from "./state.js";

const NEAR = 0.8;   // of a budget
const minutes = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

function budget([name, text, share, spends]) {
  const pair = element("div"), bar = element("span", "", share > NEAR && spends ? "bar near" : "bar");
  bar.style.setProperty("--share", Math.min(1, share || 0));
  const value = element("dd", text);
  value.append(bar);
  pair.append(element("dt", name), value);
  return pair;
}

function showBudgets(state) {
  const most = state.limits?.budget;
  show("counts", `${state.triggers} triggers${state.shams === null ? "" : `, ${state.shams} shams`}, ${state.dropped} refused`);
  if (!most) { $("budgets").replaceChildren(element("div", "no valid limits file", "note")); return; }
  const live = LIVE.includes(state.state), rest = state.refractory_s, lease = state.lease_age_s;
  const [electrode, charge] = Object.entries(state.charge_today_uc).sort((a, b) => b[1] - a[1])[0] ?? ["–", 0];
  $("budgets").replaceChildren(...[
    ["pulses this minute", `${state.pulses_minute} of ${most.pulses_per_minute}`, state.pulses_minute / most.pulses_per_minute, true],
    ["pulses this session", `${state.pulses_session} of ${most.pulses_per_session}`, state.pulses_session / most.pulses_per_session, true],
    [`charge today, e${electrode}`, `${number(charge)} of ${most.charge_per_electrode_day_uc} µC`, charge / most.charge_per_electrode_day_uc, true],
    ["refractory", rest === null ? "over" : `${number(rest)} s left`, (rest ?? 0) / most.refractory_s, false],
    ["armed for", live ? `${minutes(state.armed_s)} of ${minutes(most.armed_max_s)}` : "–", live ? state.armed_s / most.armed_max_s : 0, true],
    ["lease", live ? `${number(lease)} s ago` : "–", live ? lease / 3 : 0, true],
  ].map(budget));
}

function arm({ arm, perceived, answered, rate, interval, shams }) {
  const row = element("tr"), head = element("th", arm), track = element("td"), range = element("span", "", rate === null ? "range unknown" : "range");
  const [low, high] = interval ?? [0, 1];
  head.scope = "row";
  for (const [key, value] of [["--low", low], ["--high", high], ["--rate", rate ?? 0.5]]) range.style.setProperty(key, value);
  track.append(range);
  row.append(head, element("td", `${perceived} of ${answered} seen`), element("td", rate === null ? "–" : `${percent(rate)} %`), track,
    element("td", rate === null ? "" : `${percent(low)}–${percent(high)}`), element("td", shams ? `${shams} sham` : ""));
  return row;
}

function showHits({ hits }) {
  const none = element("tr"), cell = element("td", "no trial of ours yet");
  none.append(cell);
  $("hits").replaceChildren(...(hits.length ? hits.map(arm) : [none]));
}

export function begin() {
  on("trigger_state", showBudgets);
  on("trigger_state", showHits);
}
