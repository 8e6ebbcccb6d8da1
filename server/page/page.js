// The experimenter's page. Two WebSockets come in (link.js), state.js keeps what they said, each part shows its share of
// it, and one animation frame draws the plots. Nothing here decides: what may happen is the service's to say.

import * as array from "./array.js";
import * as arrays from "./arrays.js";
import * as budgets from "./budgets.js";
import * as bundle from "./bundle.js";
import * as channel from "./channel.js";
import * as checks from "./checks.js";
import * as events from "./events.js";
import * as header from "./header.js";
import * as latency from "./latency.js";
import { connect, showStale } from "./link.js";
import * as signal from "./signal.js";
import * as strip from "./strip.js";
import * as tabs from "./tabs.js";
import * as thresholds from "./thresholds.js";
import * as trace from "./trace.js";

const FRAMES_PER_S = 15, SLOW_FRAMES_PER_S = 4, LOOK_MS = 50;

function every(perSecond, draw) {
  let drawnAt = 0;
  return (at) => { if (at - drawnAt > 1000 / perSecond - 4) { drawnAt = at; draw(); } };
}

for (const part of [arrays, header, strip, trace, thresholds, checks, budgets, array, channel, latency, signal, bundle, events, tabs]) part.begin();
const plots = [every(FRAMES_PER_S, trace.draw), every(SLOW_FRAMES_PER_S, channel.draw), every(SLOW_FRAMES_PER_S, thresholds.draw)];
function frame(at) {
  for (const draw of plots) draw(at);
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
setInterval(showStale, LOOK_MS);
connect();
