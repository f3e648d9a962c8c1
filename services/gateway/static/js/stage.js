import { $, el } from "./dom.js";
import { Ladder } from "./ladder.js";

/** Puts the panels of a layout on the stage and takes them down again. */
export class Stage {
  constructor(app) {
    this.app = app;
    this.panels = [];
    app.state.on(["tabs", "active", "layout", "mode", "view"], () => this.lay());
  }

  lay() {
    for (const panel of this.panels) panel.destroy();
    this.panels = [];
    const stage = $("#stage");
    stage.replaceChildren();
    const { state } = this.app;
    stage.dataset.layout = state.get("layout");
    const tab = state.activeTab;
    if (!tab) return;
    const ladder = el("section", { class: "panel" });
    stage.append(ladder);
    this.panels.push(new Ladder(ladder, this.app, tab));
  }
}
