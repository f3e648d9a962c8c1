import { el } from "./dom.js";
import { clock, compact } from "./format.js";
import { formatPrice, parsePrice } from "./price.js";
import { RowsCanvas } from "./rows_canvas.js";
import { colors } from "./theme.js";

/** Order flow: every MBO record and what it did to the book. A click follows the order in the ladder. */
const ACTIONS = { A: "add", C: "cancel", M: "modify", R: "clear", T: "trade", F: "fill", N: "none" };

/** "2 → 1", "+3", "out": the effect in a few characters, and `why` when it had none for a reason. */
export function effectText(row) {
  const [, , , , size, , , , , , , effect, before, after, why] = row;
  switch (effect) {
    case "added": return `+${compact(after)}`;
    case "reduced": return `${compact(before)} → ${compact(after)}`;
    case "removed": return `−${compact(before)}`;
    case "moved": return `${compact(before)} ⤴ ${compact(after)}`;
    case "replaced": return `⇄ ${compact(after)}`;
    case "cleared": return "book cleared";
    default: return why ? why.replaceAll("_", " ") : `${compact(size)}`;
  }
}

export class Flow extends RowsCanvas {
  constructor(root, app, tab) {
    const { state } = app;
    const toggles = "ACMTF".split("").map((a) =>
      el("button", { "data-action": a, title: `${ACTIONS[a]} records`, "aria-label": `Show ${ACTIONS[a]} records`, "aria-pressed": String(state.get("flowActions").includes(a)),
        on: { click: () => {
          const now = state.get("flowActions");
          state.set({ flowActions: now.includes(a) ? now.replace(a, "") : now + a });
        } } }, a));
    root.classList.add("flow");
    root.append(
      el("header", { class: "panel-head" }, el("h2", {}, "Order flow"), el("span", { class: "spring" }),
        el("div", { class: "segmented spans", role: "group", "aria-label": "Records shown" }, ...toggles)),
      el("div", { class: "canvas-box" }, el("canvas", { tabindex: "0", role: "img", "aria-label": `Market-by-order records of ${tab.spec} and their effect, newest first` })));
    super(root);
    Object.assign(this, { app, tab, emptyText: "no order messages yet" });
    this.unlisten = state.on("flowActions", () => {
      for (const b of toggles) b.setAttribute("aria-pressed", String(state.get("flowActions").includes(b.dataset.action)));
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
    return this.instrument.flow;
  }

  version() {
    return `${this.instrument.flowVersion}.${this.app.state.get("tracked")}`;
  }

  passes(row) {
    return this.app.state.get("flowActions").includes(row[1]) || row[1] === "R" || row[1] === "N";
  }

  pick(row) {
    if (row[5] !== "0") this.app.emit("track", row[5]);
  }

  header(w) {
    return [["time UTC", 8, "left"], ["message", 78, "left"], ["price", w * 0.68, "right"], ["effect", w - 8, "right"]];
  }

  begin() {
    this.places = this.instrument.grid.places;
    this.tracked = this.app.state.get("tracked");
  }

  drawRow(c, row, y, w, height) {
    const [, action, side, price, , id, , , ts, , , effect, , , why] = row;
    const middle = y + height / 2 + 0.5;
    if (id === this.tracked) {
      c.fillStyle = colors.accentSoft;
      c.fillRect(0, y, w, height);
    }
    const color = side === "B" ? colors.bid : side === "A" ? colors.ask : colors.muted;
    c.font = `11px ${colors.mono}`;
    c.textAlign = "left";
    c.fillStyle = colors.muted;
    c.fillText(clock(Number(ts) / 1e6, 1).slice(0, 10), 8, middle);
    c.fillStyle = color;
    c.fillRect(78, y + 4, 3, height - 8);
    c.fillStyle = action === "T" ? colors.accent : effect === "none" && action !== "F" ? colors.muted : colors.text;
    c.font = `${action === "T" ? 600 : 400} 11.5px ${colors.sans}`;
    c.fillText(ACTIONS[action], 86, middle);
    c.font = `11.5px ${colors.mono}`;
    c.textAlign = "right";
    c.fillStyle = color;
    if (price !== null) c.fillText(formatPrice(parsePrice(price), this.places), w * 0.68, middle);
    c.fillStyle = why ? colors.warn : effect === "none" ? colors.muted : colors.text;
    c.fillText(effectText(row), w - 8, middle);
  }
}
