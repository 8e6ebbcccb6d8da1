// What came in, and what of it was lost. What is not as it should be is marked, here and on the tab.

import { $, count, pair, percent, show } from "./dom.js";
import { known, on } from "./state.js";

const score = (s) => (s.balanced_accuracy === null ? `– (n = ${s.n})` : `${percent(s.balanced_accuracy)} % [${s.interval.map(percent).join(", ")}], n = ${s.n}`);

function facts(status) {
  const total = known.array?.usable.length ?? status.stream?.channels ?? 0, c = status.counters ?? {};
  const flows = ["running", "warming"].includes(status.state), rate = status.rate_measured_hz, nominal = status.stream?.rate_hz;
  return [
    ["channels used", flows ? `${status.usable_channels} of ${total}` : "–", flows && status.usable_channels < 0.9 * total],
    ["rate", rate ? `${(rate / 1000).toFixed(2)} kHz` : "–", Boolean(rate && nominal && Math.abs(rate / nominal - 1) > 0.02)],
    ["samples lost", count(c.lost_samples), c.lost_samples > 0],
    ["gaps", count(c.gaps), c.gaps > 0],
    ["backlog samples", count(c.backlog_samples), c.backlog_samples > 0],
    ["reconnects", count(c.reconnects), c.reconnects > 0],
    ["predictions", count(status.predictions), false],
    ["windows skipped", count(status.skipped_windows), status.skipped_windows > 0.01 * status.predictions],
    ["late markers", count(status.late_markers), false],
    ["malformed markers", count(c.malformed_markers), c.malformed_markers > 0],
    ["event stream", c.hears_events == null ? "–" : c.hears_events ? "heard" : "none: nothing blanked", c.hears_events === false],
    ["ready", status.ready ? "yes" : "no", !status.ready],
    ...(status.evoked ? [["evoked, balanced", score(status.evoked), false]] : []),
  ];
}

export function begin() {
  on("status", (status) => {
    const all = facts(status), bad = all.filter(([, , wrong]) => wrong).length;
    $("quality").replaceChildren(...all.map((one) => pair(...one)));
    show("reasons", status.not_ready.join("; "));
    show("tab-signal", bad ? `Signal ▲ ${bad}` : "Signal");
    $("tab-signal").classList.toggle("warn", bad > 0);
  });
}
