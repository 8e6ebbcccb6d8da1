// Where the time goes: percentiles of each stage, and the medians as one bar.

import { $, element, number, show } from "./dom.js";
import { on } from "./state.js";

const digits = (value) => number(value, value < 10 ? 2 : value < 100 ? 1 : 0);
const ROWS = [["signal", "signal chain"], ["queue", "waiting"], ["inference", "inference"], ["total", "in all"]];

function showStages(latency) {
  const parts = ["signal", "queue", "inference"].map((key) => [key, latency[key].p50]);
  const total = Math.max(latency.total.p50, parts.reduce((sum, [, ms]) => sum + ms, 0), 1e-6);
  const arrival = total - parts.reduce((sum, [, ms]) => sum + ms, 0);
  $("stages").replaceChildren(...[["arrival", arrival], ...parts].map(([key, ms]) => {
    const part = element("span", "", `stage ${key}`);
    part.style.flexGrow = ms / total;
    return part;
  }));
  $("stages").setAttribute("aria-label", `Medians: arrival ${number(arrival, 2)}, ${parts.map(([key, ms]) => `${key} ${number(ms, 2)}`).join(", ")} ms`);
  return arrival;
}

export function begin() {
  on("status", ({ latency_ms: latency, signal_delay_s: delay }) => {
    const arrival = latency ? showStages(latency) : null;
    $("latency").replaceChildren(...[["arrival", "arrival"], ...ROWS].map(([key, name]) => {
      const row = element("tr"), head = element("th");
      head.scope = "row";
      head.append(element("span", "", `swatch ${key}`), name);
      const told = key === "arrival" ? [digits(arrival), "", "", ""] : ["p50", "p95", "p99", "max"].map((p) => digits(latency?.[key][p]));
      row.append(head, ...told.map((text) => element("td", text)));
      return row;
    }));
    show("delay", delay === null ? "" : `of the newest 3000; the filters delay by ${number(delay * 1000)} ms beside`);
  });
}
