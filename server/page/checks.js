// Why it does or does not fire: each check of the trigger, in the order in which it asks, with its value and its limit.

import { $, element, number, percent, show } from "./dom.js";
import { armed, on } from "./state.js";
import { WAITING } from "./strip.js";

const ms = (s) => (s === null ? "–" : `${(1000 * s).toFixed(0)} ms`), s = (x) => (x === null ? "–" : `${x.toFixed(1)} s`);
const p = (x) => number(x, 2), whole = (x) => (x === null ? "–" : String(x)), words = (x) => x ?? "–", nothing = () => "";
const CHECKS = {   // label, value, limit
  PROBABILITY: ["probability", p, nothing],
  NOT_NEWER: ["window is newer", nothing, nothing],
  AGE: ["age of samples", ms, (x) => `≤ ${ms(x)}`],
  WINDOW: ["window", words, nothing],
  HISTORY: ["history is full", nothing, nothing],
  CHANNELS: ["channels", whole, (x) => `≥ ${x}`],
  LEASE: ["operator's lease", s, (x) => `≤ ${s(x)}`],
  DEVICE: ["stimulator", (x) => words(x).replaceAll("_", " "), words],
  JOURNAL: ["journal writes", nothing, nothing],
  UNSETTLED: ["good for", s, (x) => `≥ ${s(x)}`],
  THRESHOLD: ["state wanted", p, (x) => `≥ ${Number(x.toFixed(3))}`],
  DWELL: ["dwell, hops", whole, (x) => `≥ ${x}`],
  WAIT: ["trial has waited", s, (x) => (x === null ? "" : `≥ ${s(x)}`)],
  REFRACTORY: ["rest left", s, (x) => `of ${s(x)}`],
  RATE: ["trials this minute", whole, (x) => `< ${x}`],
  SESSION: ["trials this session", whole, (x) => `< ${x}`],
  DUTY: ["duty, with next", (x) => `${number(100 * x, 1)} %`, (x) => `≤ ${percent(x)} %`],
  DAY_CHARGE: ["charge, with next", (x) => `${number(x, 1)} µC`, (x) => `≤ ${x}`],
  PLAN: ["trial of the plan", whole, (x) => `< ${x}`],
};
const MARKS = { holds: ["✓", "holds"], waits: ["○", "waits"], fails: ["✗", "does not hold"], unasked: ["–", "not asked now"] };

function row({ name, ok, value, limit }, reason) {
  const [label, told, bound] = CHECKS[name] ?? [name, words, words];
  const kind = ok === null ? "unasked" : ok ? "holds" : WAITING.includes(name) ? "waits" : "fails", [mark, word] = MARKS[kind];
  const line = element("tr", "", name === reason ? `${kind} reason` : kind), first = element("td"), sign = element("span", mark, "mark");
  sign.setAttribute("aria-hidden", "true");
  first.append(sign, element("span", word, "sr"));
  const head = element("th", label);
  head.scope = "row";
  line.append(first, head, element("td", told(value)), element("td", bound(limit), "limit"));
  return line;
}

export function begin() {
  on("trigger_state", ({ checks, reason, plan, state }) => {
    show("h-checks", armed() || state === "SHADOW" ? (reason ? "Why it does not fire" : "What it rests on") : "What it would rest on");
    show("c-note", plan?.blind ? "blind: some hidden" : "");
    const none = element("tr");
    none.append(element("td", "no prediction yet", "note"));
    $("checks").replaceChildren(...(checks.length ? checks.map((check) => row(check, reason)) : [none]));
  });
}

