// Elements and numbers as this page writes them. All text from outside goes through textContent.

export const $ = (id) => document.getElementById(id);

export function show(id, text) {
  const node = $(id);
  if (node.textContent !== text) node.textContent = text;
}

export function element(name, text = "", className = "") {
  const node = document.createElement(name);
  if (text !== "") node.textContent = text;
  if (className) node.className = className;
  return node;
}

export function pair(name, text, bad = false) {   // for a <dl>
  const both = element("div");
  both.append(element("dt", name), element("dd", text, bad ? "bad" : ""));
  return both;
}

export const number = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
export const count = (value) => (value ?? 0).toLocaleString("en-GB").replaceAll(",", "\u202f");
export const percent = (share) => `${(100 * share).toFixed(0)}`;
