import { el } from "./dom.js";
import { clock, compact } from "./format.js";
import { formatPrice } from "./price.js";
import { RowsCanvas } from "./rows_canvas.js";
import { colors } from "./theme.js";

/** Time and sales: every trade, aggressor by colour, size as a bar; filters by least size and side. */
export class Tape extends RowsCanvas {
  constructor(root, app, tab) {
    const { state } = app;
    const sides = [["", "All"], ["B", "Bought"], ["A", "Sold"]].map(([value, text]) =>
      el("button", { "data-side": value, "aria-pressed": String(state.get("tapeSide") === value), on: { click: () => state.set({ tapeSide: value }) } }, text));
    root.classList.add("tape");
    root.append(
      el("header", { class: "panel-head" }, el("h2", {}, "Trades"), el("span", { class: "spring" }),
        el("label", { class: "mini" }, "min", el("input", { type: "number", min: "0", step: "1", value: state.get("tapeMin") || "", placeholder: "0", "aria-label": "Least size",
          on: { input: (e) => state.set({ tapeMin: Math.max(0, Number(e.target.value) || 0) }) } })),
        el("div", { class: "segmented spans", role: "group", "aria-label": "Aggressor" }, ...sides)),
      el("div", { class: "canvas-box" }, el("canvas", { tabindex: "0", role: "img", "aria-label": `Trades of ${tab.spec}, newest first` })));
    super(root);
    Object.assign(this, { app, tab, emptyText: "no trades yet" });
    this.unlisten = state.on(["tapeMin", "tapeSide"], () => {
      for (const b of sides) b.setAttribute("aria-pressed", String(b.dataset.side === state.get("tapeSide")));
      this.release();
    });
  }

  destroy() {
    super.destroy();
    this.unlisten();
  }

  get instrument() {
    return this.app.source.instrument(this.tab);
  }

  items() {
    return this.instrument.trades.tape;
  }

  version() {
    return `${this.instrument.trades.version}.${this.instrument.grid.version}`;
  }

  passes(trade) {
    const side = this.app.state.get("tapeSide");
    return trade.size >= this.app.state.get("tapeMin") && (!side || trade.side === side);
  }

  header(w) {
    return [["time UTC", 8, "left"], ["price", w * 0.62, "right"], ["size", w - 8, "right"]];
  }

  begin() {
    this.most = Math.max(1, ...this.shown.map((t) => t.size));
    this.places = this.instrument.grid.places;
  }

  drawRow(c, trade, y, w, row) {
    const color = trade.side === "B" ? colors.bid : trade.side === "A" ? colors.ask : colors.muted;
    const length = (trade.size / this.most) * w * 0.34;
    c.globalAlpha = 0.2;
    c.fillStyle = color;
    c.fillRect(w - 2 - length, y + 2, length, row - 4);
    c.globalAlpha = 1;
    c.font = `11px ${colors.mono}`;
    c.textAlign = "left";
    c.fillStyle = colors.muted;
    c.fillText(clock(trade.ms, 3), 8, y + row / 2 + 0.5);
    c.font = `500 12px ${colors.mono}`;
    c.textAlign = "right";
    c.fillStyle = color;
    c.fillText(trade.px === null ? "none" : formatPrice(trade.px, this.places), w * 0.62, y + row / 2 + 0.5);
    c.fillStyle = colors.text;
    c.fillText(compact(trade.size), w - 8, y + row / 2 + 0.5);
  }
}
