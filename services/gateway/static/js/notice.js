import { $, el, icon } from "./dom.js";

/** Short messages at the foot of the page; an error stays until it is closed or replaced under the same key. */
const shown = new Map();

export function notice(text, { kind = "info", key = text, action = null, label = "" } = {}) {
  dismiss(key);
  const node = el("div", { class: `notice ${kind}` }, el("span", {}, text),
    action && el("button", { class: "link", on: { click: action } }, label),
    el("button", { class: "tool small", "aria-label": "Dismiss", on: { click: () => dismiss(key) } }, icon("close")));
  shown.set(key, node);
  $("#notices").append(node);
  if (kind === "info") setTimeout(() => dismiss(key), 4000);
}

export function dismiss(key) {
  shown.get(key)?.remove();
  shown.delete(key);
}
