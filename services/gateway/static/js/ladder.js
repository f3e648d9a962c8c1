import { Canvas } from "./canvas.js";
import { $, el, icon } from "./dom.js";
import { draws } from "./frame.js";
import { LadderRows, autoGroup } from "./ladder_rows.js";
import { LadderTable } from "./ladder_table.js";
import { FLASH_MS, HEAD, LadderPaint, ROW } from "./ladder_paint.js";
import { formatPrice } from "./price.js";
import { reducedMotion } from "./theme.js";

/**
 * The price ladder (DOM): one row a tick (or a group of ticks), bids left, asks right, bars outward from the price. With
 * the queue on, a bar is made of the level's orders, front of the queue next to the price, brighter the younger.
 */
export const GROUPS = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2500, 5000, 10_000, 100_000, 1_000_000];

export class Ladder extends LadderPaint {
  constructor(root, app, tab, { compact: small = false } = {}) {
    super();
    Object.assign(this, { app, tab, small });
    this.center = 0;
    this.follow = true;
    this.group = 1;
    this.scale = 1;
    this.seen = "";
    this.selected = null;
    this.hover = null;
    this.rows = new LadderRows();
    this.build(root);
    this.canvas = new Canvas($("canvas", root));
    this.table = new LadderTable($(".sr", root));
    this.listen();
    this.stop = draws(this);
    const off = [app.state.on(["groups", "cumulative", "queues", "profile", "tracked", "level"], () => this.refresh()), app.on("reveal", (at) => this.reveal(at))];
    this.unlisten = () => off.forEach((take) => take());
    this.refresh();
  }

  destroy() {
    this.stop();
    this.canvas.destroy();
    this.unlisten();
  }

  get instrument() {
    return this.app.source.instrument(this.tab);
  }

  build(root) {
    const { state } = this.app;
    const toggle = (key, name, label) => el("button", { class: "tool small", "data-toggle": key, "aria-label": label, title: label,
      on: { click: () => state.set({ [key]: !state.get(key) }) } }, icon(name));
    root.classList.add("ladder");
    root.append(
      el("header", { class: "panel-head" },
        el("h2", {}, this.small ? this.tab.spec : "Ladder"),
        el("span", { class: "spring" }),
        el("div", { class: "stepper", role: "group", "aria-label": "Ticks a row" },
          el("button", { "aria-label": "Fewer ticks a row", title: "Fewer ticks a row", on: { click: () => this.step(-1) } }, "−"),
          (this.groupText = el("output", { title: "Ticks a row" }, "1×")),
          el("button", { "aria-label": "More ticks a row", title: "More ticks a row", on: { click: () => this.step(1) } }, "+")),
        toggle("queues", "queue", "Orders in the bars (Q)"),
        toggle("cumulative", "sum", "Cumulative sizes (S)"),
        toggle("profile", "bars", "Traded at price (V)"),
        (this.centerButton = el("button", { class: "tool small", "aria-label": "Recentre (C)", title: "Recentre (C)", on: { click: () => this.recentre() } }, icon("center")))),
      el("div", { class: "canvas-box" },
        el("canvas", { tabindex: "0", role: "img", "aria-label": `Price ladder of ${this.tab.spec}. Arrow keys scroll, Enter opens the queue of a level, C recentres.` })),
      el("table", { class: "sr" }));
    this.root = root;
  }

  refresh() {
    const { state } = this.app;
    for (const button of this.root.querySelectorAll("[data-toggle]")) button.setAttribute("aria-pressed", String(state.get(button.dataset.toggle)));
    this.seen = "";
  }

  listen() {
    const { element } = this.canvas;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey) return this.step(event.deltaY > 0 ? 1 : -1);
      return this.scroll(-event.deltaY / ROW / (event.deltaMode ? 0.05 : 1));
    }, { passive: false });
    element.addEventListener("pointermove", (event) => {
      if (this.drag) {
        this.scroll((event.clientY - this.drag.y) / ROW);
        this.drag = { y: event.clientY, moved: this.drag.moved + Math.abs(event.movementY) };
      }
      this.hover = this.rowAt(event.offsetY);
      this.seen = "";
    });
    element.addEventListener("pointerleave", () => {
      this.hover = null;
      this.seen = "";
    });
    element.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      element.setPointerCapture(event.pointerId);
      this.drag = { y: event.clientY, moved: 0 };
    });
    element.addEventListener("pointerup", (event) => {
      if (this.drag && this.drag.moved < 4 && event.offsetY > HEAD) this.choose(this.rowAt(event.offsetY), event.offsetX);
      this.drag = null;
    });
    element.addEventListener("pointercancel", () => (this.drag = null));
    element.addEventListener("dblclick", () => this.recentre());
    element.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const page = Math.max(1, this.visibleRows() - 2);
    const move = { ArrowUp: 1, ArrowDown: -1, PageUp: page, PageDown: -page }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (move) {
      this.selected = (this.selected ?? Math.round(this.center)) + move;
      if (Math.abs(this.selected - this.center) > this.visibleRows() / 2 - 2) this.scroll(move);
      this.speak(this.selected);
    } else if (event.key === "Home") this.recentre();
    else if (event.key === "Enter" && this.selected !== null) this.choose(this.selected);
    else if (event.key === "Escape") {
      this.selected = null;
      this.seen = "";
      return; // and on to the page's own: it closes the queue of a level
    } else return;
    this.seen = "";
    event.preventDefault();
    event.stopPropagation();
  }

  speak(row) {
    const at = this.rows.at(row);
    const price = this.priceText(row);
    this.app.announce(at?.bid ? `${price}, bid ${at.bid} in ${at.bids} orders` : at?.ask ? `${price}, ask ${at.ask} in ${at.asks} orders` : `${price}, empty`);
  }

  choose(row, x = null) {
    const at = this.rows.at(row);
    const side = at?.bid && !at.ask ? "B" : at?.ask && !at.bid ? "A" : x !== null && at ? (x < this.canvas.width / 2 ? "B" : "A") : null;
    this.selected = row;
    this.seen = "";
    if (side) this.app.state.set({ level: { spec: this.tab.spec, side, row, group: this.group } });
    this.app.emit("level");
  }

  scroll(rows) {
    this.follow = false;
    this.center += rows;
    this.seen = "";
  }

  /** Scrolls to a price when it is out of sight. */
  reveal({ tab, px }) {
    if (tab !== this.tab || !this.instrument.grid.holds(px)) return;
    const row = Math.floor(this.instrument.grid.row(px) / this.group);
    if (Math.abs(row - this.center) > this.visibleRows() / 2 - 1) this.scroll(row - this.center);
    this.selected = row;
    this.seen = "";
  }

  recentre() {
    this.follow = true;
    this.selected = null;
    this.seen = "";
  }

  step(by) {
    const at = GROUPS.indexOf(this.group);
    const next = GROUPS[Math.min(GROUPS.length - 1, Math.max(0, at + by))];
    const price = this.center * this.group;
    this.app.state.set({ groups: { ...this.app.state.get("groups"), [this.tab.spec]: next } });
    this.center = price / next;
  }

  visibleRows() {
    return Math.max(1, Math.floor((this.canvas.height - HEAD) / ROW));
  }

  rowAt(y) {
    return Math.round(this.center - (y - HEAD - (this.canvas.height - HEAD) / 2) / ROW);
  }

  priceText(row) {
    const { grid } = this.instrument;
    return grid.ready ? formatPrice(grid.price(row * this.group), grid.places) : "";
  }

  frame(now, beat) {
    const { canvas } = this;
    if (!canvas.visible) return;
    const i = this.instrument;
    const wall = performance.now();
    const flashing = wall - this.flashedAt < FLASH_MS;
    const key = `${i.book.version}.${i.trades.version}.${i.orders.version}.${i.grid.version}`;
    this.table.update(i, wall);
    if (!beat && !canvas.dirty && this.seen !== "" && !this.drag) return;
    const moving = this.advance(i);
    if (key === this.seen && !canvas.dirty && !moving && !flashing) return;
    if (key !== this.seen) this.flashedAt = wall;
    this.seen = key;
    canvas.dirty = false;
    this.draw(canvas.begin(), i, wall, now);
  }

  /** Chooses the group, and moves the centre towards the market while following. True while it moves. */
  advance(i) {
    const chosen = this.app.state.get("groups")[this.tab.spec];
    const group = chosen ?? autoGroup(i.book, this.visibleRows(), GROUPS, this.group);
    if (group !== this.group) {
      this.center = (this.center * this.group) / group;
      this.group = group;
    }
    const text = `${this.group >= 10_000 ? this.group.toExponential(0).replace("+", "") : this.group}×`;
    if (this.groupText.textContent !== text) this.groupText.textContent = text;
    const pressed = String(this.follow);
    if (this.centerButton.getAttribute("aria-pressed") !== pressed) this.centerButton.setAttribute("aria-pressed", pressed);
    const { bid, ask } = i.book;
    if (!this.follow || (!bid && !ask)) return false;
    const mid = ((bid ?? ask).row + (ask ?? bid).row) / 2 / this.group;
    const half = this.visibleRows() / 2;
    const off = mid - this.center;
    if (Math.abs(off) > half * 1.5 || reducedMotion.matches) {
      if (Math.abs(off) < half * 0.35) return false;
      this.center = Math.round(mid);
      return true;
    }
    if (!this.gliding && Math.abs(off) < half * 0.35) return false;
    this.gliding = Math.abs(off) > 0.5;
    this.center += off * 0.22;
    if (!this.gliding) this.center = Math.round(this.center);
    return true;
  }
}
