import { dialog } from "./dialog.js";
import { $, el } from "./dom.js";

/** Every keyboard shortcut, once: what it does, what it is called, and the help that lists them. */
export class Keys {
  constructor(app, actions) {
    this.app = app;
    this.groups = actions;
    this.byKey = new Map(actions.flatMap(([, rows]) => rows).flatMap(([keys, , act]) => keys.map((key) => [key, act])));
    this.box = dialog("help", "Keyboard", el("div", { class: "shortcuts" }, ...actions.map(([title, rows]) => el("section", {}, el("h3", {}, title),
      el("dl", {}, ...rows.flatMap(([keys, text]) => [el("dt", {}, ...this.shown(keys).map((k) => el("kbd", {}, this.name(k)))), el("dd", {}, text)]))))));
    $("#help-open").addEventListener("click", () => this.box.showModal());
    document.addEventListener("keydown", (event) => this.press(event));
  }

  shown(keys) {
    if (keys.length > 2) return [`${keys[0]} … ${keys.at(-1)}`];
    return keys.filter((key) => key !== "Control+k");
  }

  name(key) {
    return { " ": "space", "Shift+N": "⇧ N", ArrowUp: "↑" }[key] ?? (key.length === 1 ? key.toUpperCase() : key);
  }

  press(event) {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    const mod = event.ctrlKey || event.metaKey;
    if (mod && event.key.toLowerCase() === "k") {
      event.preventDefault();
      this.byKey.get("/")();
      return;
    }
    if (typing || mod || event.altKey || document.querySelector("dialog[open], :popover-open")) return; // theirs: Escape closes them
    if (event.key === " " && event.target.closest?.("button, a, [role='slider']") && event.target.tagName !== "CANVAS") return;
    const key = event.shiftKey && event.key.length === 1 && /[a-z]/i.test(event.key) ? `Shift+${event.key.toUpperCase()}` : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = this.byKey.get(key);
    if (!act) return;
    event.preventDefault();
    act(event);
  }
}
