import { copyText } from "./dialog.js";
import { $, el, icon } from "./dom.js";
import { encode } from "./link.js";
import { notice } from "./notice.js";
import { applyTheme } from "./theme.js";

/** The buttons of the top bar and the phone's panel bar, and the link in the address bar. */
const LAYOUTS = [["focus", "One instrument"], ["ladders", "Ladders of all open instruments"], ["charts", "Charts of all open instruments"]];
const PANELS = [["ladder", "Ladder"], ["chart", "Chart"], ["tape", "Trades"], ["flow", "Flow"], ["depth", "Depth"]];
const THEMES = ["auto", "dark", "light"];

export class Chrome {
  constructor(app) {
    this.app = app;
    const { state } = app;
    $("#layouts").append(...LAYOUTS.map(([name, title]) => el("button", { "data-layout": name, "aria-label": title, title, on: { click: () => state.set({ layout: name, view: "book" }) } }, icon(name))));
    $("#mobile").append(...PANELS.map(([name, text]) => el("button", { "data-panel": name, on: { click: () => state.set({ mobileTab: name, layout: "focus", view: "book" }) } }, text)));
    $("#view-book").addEventListener("click", () => state.set({ view: "book" }));
    $("#view-pipeline").addEventListener("click", () => state.set({ view: "pipeline" }));
    $("#theme").addEventListener("click", () => this.theme());
    $("#copy-link").addEventListener("click", () => this.copyLink());
    state.on(["layout", "view", "mobileTab"], () => this.draw());
    state.on(["tabs", "active", "layout", "view", "mode", "replay"], () => this.address());
    state.on("theme", () => applyTheme(state.get("theme")));
    this.draw();
    this.address();
  }

  draw() {
    const { layout, view, mobileTab } = this.app.state.values;
    const press = (node, on) => node.setAttribute("aria-pressed", String(on));
    for (const b of $("#layouts").children) press(b, b.dataset.layout === layout && view === "book");
    for (const b of $("#mobile").children) press(b, b.dataset.panel === mobileTab);
    press($("#view-book"), view === "book");
    press($("#view-pipeline"), view === "pipeline");
    document.body.dataset.view = view;
  }

  theme() {
    const { state } = this.app;
    const next = THEMES[(THEMES.indexOf(state.get("theme")) + 1) % THEMES.length];
    state.set({ theme: next });
    notice(`Theme: ${next === "auto" ? "as the system" : next}`, { key: "theme" });
  }

  watch() {
    const { state } = this.app;
    const spec = state.activeTab?.spec;
    const watch = state.get("watch");
    if (spec) state.set({ watch: watch.includes(spec) ? watch.filter((s) => s !== spec) : [...watch, spec] });
  }

  address() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => history.replaceState(null, "", encode(this.app.state.values)), 150);
  }

  async copyLink() {
    const { state, player } = this.app;
    const url = new URL(encode(state.values, state.get("mode") === "replay" ? player.ns : null), location.href).href;
    const done = await copyText(url);
    notice(done ? "Link copied: it opens this view" : url, { key: "link" });
  }
}
