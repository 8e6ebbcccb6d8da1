// What happened, newest first, in words.

import { $, element, number } from "./dom.js";
import { on } from "./state.js";

const KEPT = 60;
const OURS = { trigger: "trigger", sham: "sham", would_fire: "would fire" };

function words(told) {
  const where = told.electrode == null ? "" : ` on e${told.electrode}`, current = told.current_ua == null ? "" : `, ${number(told.current_ua, 0)} µA`;
  switch (told.type) {
    case "stim": return ["stim", `stimulation${where}${current}`];
    case "report": return [told.perceived ? "yes" : "no", told.perceived ? "reported: perceived" : "reported: not perceived"];
    case "trigger": case "sham": case "would_fire": {
      const arm = told.arm ? `, ${told.arm}` : "", kind = { trigger: "fired", sham: "sham", would_fire: "would" }[told.type];
      return [kind, `${OURS[told.type]}${arm}${told.refused ? `: not sent, ${told.refused}` : ""}`];
    }
    case "transition": return ["move", `${told.from} → ${told.to}: ${told.reason}`];
    case "late_marker": return ["warn", `late marker: ${told.last_seq - told.first_seq + 1} withdrawn`];
    case "channels": return ["move", told.masked.length ? `masked: channels ${told.masked.join(", ")}` : "no channel is masked"];
    case "bundle": return ["move", `bundle ${told.name}: ${told.what}, ${told.why}`];
    case "dropped": return ["warn", `this page fell behind by ${told.count} messages`];
    default: return null;
  }
}

export function begin() {
  let first = true;
  on("happened", (told) => {
    const [kind, text] = words(told) ?? [];
    if (!text) return;
    const item = element("li"), sign = element("span", "", `key ${kind}`);
    item.append(element("time", told.sample_time == null ? "" : `${told.sample_time.toFixed(1)} s`), sign, element("span", text));
    item.title = text;
    if (first) $("log").replaceChildren();
    first = false;
    $("log").prepend(item);
    while ($("log").childElementCount > KEPT) $("log").lastChild.remove();
  });
}
