// One panel at a time, by pointer or arrow keys.

import { $ } from "./dom.js";

const NAMES = ["latency", "signal", "bundle"];

export function choose(name, focus = false) {
  for (const one of NAMES) {
    const tab = $(`tab-${one}`), on = one === name;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    $(`panel-${one}`).hidden = !on;
    if (on && focus) tab.focus();
  }
}

export function begin() {
  NAMES.forEach((name, i) => {
    $(`tab-${name}`).onclick = () => choose(name);
    $(`tab-${name}`).onkeydown = ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (step) choose(NAMES[(i + step + NAMES.length) % NAMES.length], true);
    };
  });
}
