import { rowStep } from "./axes.js";
import { Canvas } from "./canvas.js";
import { $, el } from "./dom.js";
import { compact } from "./format.js";
import { draws } from "./frame.js";
import { formatPrice } from "./price.js";
import { colors } from "./theme.js";

/** Cumulative depth around the mid: how much one must trade to move the price so far. */
const EVERY_MS = 60;

export class Depth {
  constructor(root, app, tab) {
    Object.assign(this, { app, tab, cursor: null, seen: "", reach: null });
    root.classList.add("depth");
    root.append(
      el("header", { class: "panel-head" }, el("h2", {}, "Depth"), (this.caption = el("span", { class: "caption" }))),
      el("div", { class: "canvas-box" }, el("canvas", { role: "img", "aria-label": `Cumulative depth of ${tab.spec}` })));
    this.canvas = new Canvas($("canvas", root));
    const { element } = this.canvas;
    element.addEventListener("pointermove", (e) => this.point(e.offsetX));
    element.addEventListener("pointerleave", () => this.point(null));
    element.addEventListener("wheel", (e) => {
      e.preventDefault();
      this.reach = Math.min(1e6, Math.max(4, (this.reach ?? 20) * Math.exp(e.deltaY * 0.0016)));
      this.chosen = true;
      this.seen = "";
    }, { passive: false });
    this.stop = draws(this);
  }

  destroy() {
    this.stop();
    this.canvas.destroy();
  }

  point(x) {
    this.cursor = x;
    this.seen = "";
  }

  frame(now) {
    if (!this.canvas.visible || (now - (this.drawnAt ?? 0) < EVERY_MS && this.seen !== "")) return;
    const i = this.app.source.instrument(this.tab);
    const key = `${i.book.version}.${i.grid.version}`;
    if (key === this.seen && !this.canvas.dirty) return;
    this.seen = key;
    this.drawnAt = now;
    this.canvas.dirty = false;
    this.draw(this.canvas.begin(), i);
  }

  draw(c, i) {
    const { width: w, height: H } = this.canvas;
    const h = H - 18;
    c.fillStyle = colors.panel;
    c.fillRect(0, 0, w, H);
    const { bid, ask } = i.book;
    if (!bid || !ask || !i.grid.ready) return;
    const mid = (bid.row + ask.row) / 2;
    if (!this.chosen) {
      const at = (side, n) => Math.abs(side.levels[Math.min(n, side.levels.length - 1)].row - mid);
      const far = (side) => Math.min(at(side, 29), at(side, 9) * 4);
      const target = Math.max(5, far(i.book.bids), far(i.book.asks)) * 1.04;
      this.reach = this.reach === null || target > this.reach * 1.3 || target < this.reach * 0.6 ? target : this.reach;
    }
    const x = (row) => w / 2 + ((row - mid) / this.reach) * (w / 2);
    const sides = [this.steps(i.book.bids, mid), this.steps(i.book.asks, mid)];
    const most = Math.max(1, ...sides.map((s) => s.at(-1)?.[1] ?? 0));
    const y = (sum) => h - 4 - (sum / most) * (h - 14);
    this.grid(c, i, w, h, mid, most, x, y);
    for (const [k, steps] of sides.entries()) {
      if (!steps.length) continue;
      c.beginPath();
      c.moveTo(x(steps[0][0]), h);
      let last = h;
      for (const [row, sum] of steps) {
        c.lineTo(x(row), last);
        last = y(sum);
        c.lineTo(x(row), last);
      }
      const edge = k === 0 ? 0 : w;
      c.lineTo(edge, last);
      c.lineTo(edge, h);
      c.closePath();
      c.fillStyle = k === 0 ? colors.bidSoft : colors.askSoft;
      c.fill();
      c.strokeStyle = k === 0 ? colors.bid : colors.ask;
      c.lineWidth = 1.3;
      c.stroke();
    }
    c.fillStyle = colors.panel;
    c.fillRect(0, h, w, 18);
    c.fillStyle = colors.line;
    c.fillRect(0, h, w, 1);
    this.labels(c, i, w, h, mid, x);
    this.legend(i, sides, mid);
  }

  steps(side, mid) {
    const out = [];
    let sum = 0;
    for (const level of side.levels) {
      if (Math.abs(level.row - mid) > this.reach) break;
      sum += level.size;
      out.push([level.row, sum, level]);
    }
    return out;
  }

  grid(c, i, w, h, mid, most, x, y) {
    c.font = `10.5px ${colors.mono}`;
    c.textAlign = "right";
    c.textBaseline = "middle";
    const step = rowStep(most, 3);
    for (let v = step; v < most; v += step) {
      c.fillStyle = colors.line;
      c.fillRect(0, y(v), w, 1);
      c.fillStyle = colors.muted;
      c.fillText(compact(v), w - 4, y(v) - 7);
    }
    if (this.cursor !== null) {
      c.fillStyle = colors.lineStrong;
      c.fillRect(this.cursor, 0, 1, h);
    }
  }

  labels(c, i, w, h, mid, x) {
    c.font = `11px ${colors.mono}`;
    c.textAlign = "center";
    c.fillStyle = colors.muted;
    const step = rowStep(this.reach * 2, w / 90);
    for (let row = Math.ceil((mid - this.reach) / step) * step; row < mid + this.reach; row += step) {
      const at = x(row);
      if (at > 26 && at < w - 26) c.fillText(i.grid.text(row), at, h + 10);
    }
  }

  legend(i, sides, mid) {
    let text = `Σ bid ${compact(sides[0].at(-1)?.[1] ?? 0)} · Σ ask ${compact(sides[1].at(-1)?.[1] ?? 0)}`;
    if (this.cursor !== null) {
      const row = mid + ((this.cursor - this.canvas.width / 2) / (this.canvas.width / 2)) * this.reach;
      const side = row < mid ? sides[0] : sides[1];
      const within = side.filter(([r]) => (row < mid ? r >= row : r <= row)).at(-1);
      text = `${within ? compact(within[1]) : 0} to ${formatPrice(i.grid.price(row), i.grid.places)}`;
    }
    if (this.caption.textContent !== text) this.caption.textContent = text;
  }
}
