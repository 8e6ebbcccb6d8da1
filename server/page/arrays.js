// Which array this page shows, and the way to the others. All of them have one trigger, which decides on the first.

import { $ } from "./dom.js";
import { on } from "./state.js";

export const HERE = location.pathname.match(/\/arrays\/([^/]+)\/$/)?.[1] ?? "first";
const ROOT = HERE === "first" ? "./" : "../../";

export function begin() {
  on("status", ({ arrays }) => {
    if (!arrays.length || $("arrays").childElementCount) return;
    $("arrays").hidden = false;
    $("arrays").replaceChildren(...["first", ...arrays].map((name) => {
      const link = document.createElement("a");
      link.href = name === "first" ? ROOT : `${ROOT}arrays/${name}/`;
      link.textContent = name;
      if (name === HERE) link.setAttribute("aria-current", "page");
      return link;
    }));
  });
}
