// What every plot shares: uPlot that fills its box, the colours of page.css, an axis of seconds that ends now.

import uPlot from "./vendor/uPlot.esm.js";

export const INK = { text: "#dfe6ee", quiet: "#9aa7b8", grid: "#1e2733", middle: "#364355", panel: "#121821" };
export const PHOSPHOR = "#f2d06b", BLUE = "#7db8f7", TEAL = "#6fd3b4", ORANGE = "#f5a45d";

export const rem = (n) => Math.round(n * parseFloat(getComputedStyle(document.documentElement).fontSize));
const font = () => `${rem(0.85)}px system-ui, sans-serif`;
export const pixels = (n) => n * devicePixelRatio;

export const axis = (more) => ({
  stroke: INK.quiet, font: font(), gap: 4, size: 22, ticks: { show: false }, grid: { stroke: INK.grid, width: 1 }, ...more,
});

export const secondsAxis = (end, span, step, unit = (s) => `−${s} s`) => axis({
  splits: () => Array.from({ length: span / step + 1 }, (_, i) => end() - span + i * step),
  values: (_, splits) => splits.map((at) => { const s = Math.round(end() - at); return s === 0 ? "now" : unit(s); }),
});

export function plot(box, options, data) {   // `options` without a size: the box has one, and keeps it
  const size = () => ({ width: Math.max(60, box.clientWidth), height: Math.max(40, box.clientHeight) });
  const chart = new uPlot({ legend: { show: false }, cursor: { show: false }, pxAlign: 0, ...size(), ...options }, data, box);
  new ResizeObserver(() => chart.setSize(size())).observe(box);
  return chart;
}

export function replot(chart, data, from, to) {
  chart.batch(() => {
    chart.setData(data, false);
    chart.setScale("x", { min: from, max: to });
  });
}
