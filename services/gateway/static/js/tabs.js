import { $, el, icon, keepFocus } from "./dom.js";

/** The open instruments, as tabs; + opens the switcher. */
export class Tabs {
  constructor(app) {
    this.app = app;
    app.state.on(["tabs", "active", "view"], () => keepFocus($("#tabs"), () => this.draw()));
    this.draw();
  }

  draw() {
    const { state } = this.app;
    const active = state.get("active");
    $("#tabs").replaceChildren(
      ...state.get("tabs").map((tab, index) =>
        el("span", { class: `tab ${index === active ? "active" : ""}` },
          el("button", { class: "tab-name", "aria-current": index === active ? "true" : null, title: `${tab.spec} (${index + 1})`,
            on: { click: () => state.set({ active: index, view: "book" }), auxclick: (e) => e.button === 1 && state.close(index) } },
          tab.publisher === null ? tab.spec : `${tab.spec} @${tab.publisher}`),
          state.get("tabs").length > 1 && el("button", { class: "tab-close", "aria-label": `Close ${tab.spec}`, on: { click: () => state.close(index) } }, icon("close")))),
      el("button", { class: "tool small", id: "switcher-open", "aria-label": "Open an instrument", title: "Open an instrument (/)", on: { click: () => this.app.emit("switcher") } }, icon("plus")));
  }
}
