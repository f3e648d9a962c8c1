import { Canvas } from "./canvas.js";
import { $, el, icon, setText } from "./dom.js";
import { clock, compact } from "./format.js";
import { draws } from "./frame.js";
import { HeatTexture } from "./heat_texture.js";
import { HeatView } from "./heat_view.js";
import { gestures } from "./gestures.js";
import { AXIS_Y, HeatPaint } from "./heat_paint.js";
import { reducedMotion } from "./theme.js";

/** Liquidity over time: resting size by colour, best bid and ask as lines, trades as bubbles, the book now at the right. */
const SPANS = [["30 s", 30_000], ["2 min", 120_000], ["10 min", 600_000], ["1 h", 3_600_000]];

export class Heatmap extends HeatPaint {
  constructor(root, app, tab, { compact: small = false } = {}) {
    super();
    Object.assign(this, { app, tab, small });
    this.view = app.heatViews.get(tab);
    this.texture = new HeatTexture();
    this.cursor = null;
    this.seen = "";
    this.build(root);
    this.canvas = new Canvas($("canvas", root));
    this.stopGestures = gestures(this.canvas.element, this);
    this.stop = draws(this);
    this.unlisten = app.state.on(["bubbles", "contrast"], () => (this.seen = ""));
  }

  destroy() {
    this.stop();
    this.canvas.destroy();
    this.unlisten();
    this.stopGestures();
  }

  get instrument() {
    return this.app.source.instrument(this.tab);
  }

  build(root) {
    const { state } = this.app;
    root.classList.add("heatmap");
    const button = (name, label, click, attributes = {}) => el("button", { class: "tool small", "aria-label": label, title: label, on: { click }, ...attributes }, icon(name));
    this.spans = SPANS.map(([text, ms]) => el("button", { on: { click: () => this.setSpan(ms) }, "aria-pressed": "false" }, text));
    root.append(
      el("header", { class: "panel-head" },
        el("h2", {}, this.small ? this.tab.spec : "Liquidity"),
        (this.caption = el("span", { class: "caption" })),
        el("span", { class: "spring" }),
        !this.small && el("div", { class: "legend", "aria-hidden": "true", title: "Resting size" }, el("span", {}, "0"), el("i"), (this.legendTop = el("span", {}, ""))),
        !this.small && button("minus", "Less contrast ([)", () => state.set({ contrast: Math.max(-6, state.get("contrast") - 1) })),
        !this.small && button("plus", "More contrast (])", () => state.set({ contrast: Math.min(6, state.get("contrast") + 1) })),
        el("div", { class: "segmented spans", role: "group", "aria-label": "Time shown" }, ...this.spans),
        (this.followButton = button("center", "Follow the market (F)", () => this.followAll()))),
      el("div", { class: "canvas-box" },
        el("canvas", { tabindex: "0", role: "img",
          "aria-label": `Liquidity heatmap of ${this.tab.spec}. Arrow keys pan, plus and minus zoom time, Shift with up and down zooms price, F follows the market.` })));
    this.root = root;
  }

  setSpan(ms) {
    this.view.span = ms;
    this.seen = "";
  }

  followAll() {
    this.view.follow();
    this.view.rows = null;
    this.seen = "";
  }

  // gestures.js calls these, in pixels
  pan(dx, dy) {
    this.view.panTime((-dx / this.plotWidth) * this.view.span);
    if (Math.abs(dy) > 0.5) this.view.panPrice((dy / this.plotHeight) * this.view.rows);
    this.seen = "";
  }

  zoom(factor, x, y, price) {
    if (price || x > this.plotWidth) this.view.zoomPrice(factor, y / this.plotHeight);
    else this.view.zoomTime(factor, x / this.plotWidth);
    this.seen = "";
  }

  point(at) {
    this.cursor = at;
    this.seen = "";
  }

  home() {
    this.followAll();
  }

  get plotWidth() {
    return Math.max(10, this.canvas.width - this.margin);
  }

  get plotHeight() {
    return Math.max(10, this.canvas.height - AXIS_Y);
  }

  frame(now) {
    const { canvas, view } = this;
    if (!canvas.visible) return;
    const i = this.instrument;
    let market = this.app.source.marketNow(i);
    if (reducedMotion.matches) market = Math.floor(market / 1000) * 1000;
    view.advance(i.book, market, reducedMotion.matches);
    const key = `${i.book.version}.${i.trades.version}.${view.end ?? Math.round(market * (this.plotWidth / view.span) * canvas.ratio)}.${view.center}.${view.rows}.${view.span}`;
    if (key === this.seen && !canvas.dirty) return;
    this.seen = key;
    canvas.dirty = false;
    this.draw(canvas.begin(), i, now);
    this.chrome();
  }

  chrome() {
    const pressed = String(this.view.following);
    if (this.followButton.getAttribute("aria-pressed") !== pressed) this.followButton.setAttribute("aria-pressed", pressed);
    for (const [k, [, ms]] of SPANS.entries()) {
      const on = String(this.view.span === ms);
      if (this.spans[k].getAttribute("aria-pressed") !== on) this.spans[k].setAttribute("aria-pressed", on);
    }
    if (this.legendTop) setText(this.legendTop, compact(this.texture.reference * Math.pow(1.5, -this.app.state.get("contrast"))));
    setText(this.caption, this.view.end === null ? "" : `to ${clock(this.view.right)} UTC`);
  }
}
