import { $, el } from "./dom.js";
import { Tree } from "./tree.js";
import { Watch } from "./watch.js";

/** The left column: watch list and market tree. */
export class Side {
  constructor(app) {
    this.app = app;
    const { state } = app;
    const tab = (name, text) => el("button", { "data-tab": name, on: { click: () => state.set({ sideTab: name }) } }, text);
    this.watch = el("div", { class: "side-page" });
    this.markets = el("div", { class: "side-page" });
    $("#side").append(el("header", { class: "panel-head" }, el("div", { class: "segmented", role: "group", "aria-label": "List" }, tab("watch", "Watch"), tab("markets", "Markets")), el("span", { class: "spring" }),
      el("button", { class: "link", title: "Search (/)", on: { click: () => app.emit("switcher") } }, "Search")), this.watch, this.markets);
    new Watch(this.watch, app);
    new Tree(this.markets, app);
    state.on(["side", "sideTab"], () => this.draw());
    $("#side-toggle").addEventListener("click", () => state.set({ side: !state.get("side") }));
    this.draw();
  }

  draw() {
    const { side, sideTab } = this.app.state.values;
    $("#side").hidden = !side;
    $("#side-toggle").setAttribute("aria-expanded", String(side));
    this.watch.hidden = sideTab !== "watch";
    this.markets.hidden = sideTab !== "markets";
    for (const b of $("#side").querySelectorAll("[data-tab]")) b.setAttribute("aria-pressed", String(b.dataset.tab === sideTab));
  }
}
