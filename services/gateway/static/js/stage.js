import { $, el, keepFocus } from "./dom.js";
import { Depth } from "./depth.js";
import { Flow } from "./flow.js";
import { Heatmap } from "./heatmap.js";
import { Ladder } from "./ladder.js";
import { Pipeline } from "./pipeline.js";
import { Queue } from "./queue.js";
import { Tape } from "./tape.js";

/** Puts the panels of a layout on the stage and takes them down again. */
export class Stage {
  constructor(app) {
    this.app = app;
    this.panels = [];
    app.state.on(["tabs", "active", "layout", "mode", "view"], () => keepFocus($("#stage"), () => this.lay()));
    app.state.on(["mobileTab", "flow", "depthChart"], () => this.mark());
  }

  mark() {
    const stage = $("#stage");
    const { values } = this.app.state;
    Object.assign(stage.dataset, { layout: values.view === "pipeline" ? "pipeline" : values.layout, mobile: values.mobileTab, flow: String(values.flow), depth: String(values.depthChart) });
  }

  lay() {
    for (const panel of this.panels) panel.destroy();
    this.panels = [];
    const stage = $("#stage");
    stage.replaceChildren();
    this.mark();
    const { values } = this.app.state;
    const n = values.tabs.length;
    stage.style.setProperty("--columns", String(n <= 3 ? n : Math.ceil(n / 2)));
    if (values.view === "pipeline") this.add("pipeline", (root) => new Pipeline(root, this.app));
    else if (values.layout === "ladders") for (const tab of values.tabs) this.add("ladders", (root) => new Ladder(root, this.app, tab, { compact: true }), tab);
    else if (values.layout === "charts") for (const tab of values.tabs) this.add("charts", (root) => new Heatmap(root, this.app, tab, { compact: true }), tab);
    else if (this.app.state.activeTab) this.focus(this.app.state.activeTab);
  }

  focus(tab) {
    this.add("area-chart", (root) => new Heatmap(root, this.app, tab));
    this.add("area-depth", (root) => new Depth(root, this.app, tab));
    const ladder = this.add("area-ladder", (root) => new Ladder(root, this.app, tab));
    this.panels.push(new Queue(ladder, this.app, tab));
    this.add("area-tape", (root) => new Tape(root, this.app, tab));
    this.add("area-flow", (root) => new Flow(root, this.app, tab));
  }

  add(name, make, tab = null) {
    const root = el("section", { class: `panel ${name}`, "aria-label": tab ? tab.spec : null });
    if (tab && tab === this.app.state.activeTab) root.classList.add("active");
    $("#stage").append(root);
    this.panels.push(make(root));
    return root;
  }
}
