/** Small helpers for building elements; text only ever goes in as text. */
const SVG = "http://www.w3.org/2000/svg";

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** el("button", {class: "x", on: {click}, aria-label: "…"}, "text", child…) */
export function el(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
    else if (key === "hidden" || key === "disabled" || key === "checked" || key === "value") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

/** Renews what stands in `root`; who is there by keyboard stays in the same place of it. */
export function keepFocus(root, change) {
  const places = () => $$("button, input, select, [tabindex='0']", root);
  const at = document.activeElement.matches(":focus-visible") ? places().indexOf(document.activeElement) : -1;
  change();
  if (at >= 0) (places()[at] ?? places().at(-1))?.focus();
}

/** Sets text only when it differs: most figures do not change in a frame. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}
