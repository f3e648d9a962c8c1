import { el, icon } from "./dom.js";

/** A modal dialog with a title and a close button; focus goes in and back as the platform does it. */
export function dialog(id, title, ...children) {
  const box = el("dialog", { id, class: "dialog", "aria-labelledby": `${id}-title` },
    el("header", {}, el("h2", { id: `${id}-title` }, title), el("button", { class: "tool", "aria-label": "Close", on: { click: () => box.close() } }, icon("close"))),
    ...children);
  box.addEventListener("click", (event) => event.target === box && box.close());
  document.body.append(box);
  return box;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "sr", value: text });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
