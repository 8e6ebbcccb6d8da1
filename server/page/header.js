// Whose data this is, and whether it is real.

import { HERE } from "./arrays.js";
import { $, show } from "./dom.js";
import { on } from "./state.js";

const BANNERS = { live: ["●", "LIVE"], replay: ["↻", "REPLAY"], simulated: ["◇", "SIMULATED"] };

export function begin() {
  on("status", (status) => {
    const source = status.stream?.source, [mark, word] = BANNERS[source] ?? ["○", "NO SOURCE"];
    $("banner").className = `banner ${BANNERS[source] ? source : "none"}`;
    show("banner-mark", mark);
    show("banner-word", word);
    $("decoder").className = `decoder ${status.state}`;
    show("decoder-word", status.state);
    show("participant", status.stream?.participant ?? "not stated");
    show("session", status.stream?.session ?? "not stated");
    show("model", status.model);
    show("provider", `${status.provider}, ${status.precision}`);
    document.title = `${word} · ${status.arrays.length ? `${HERE} · ` : ""}Phosphene`;
  });
  on("trigger_state", ({ limits, plan }) => {
    const told = limits ? `${limits.name} ${limits.sha256.slice(0, 8)}${limits.simulated_only ? ", simulated only" : ""}` : "no valid file";
    show("limits", plan?.blind ? `${told}, blind` : told);
  });
  on("stale", () => {
    if (!document.body.classList.contains("silent")) return;
    $("decoder").className = "decoder";
    show("decoder-word", "no connection");
  });
}
