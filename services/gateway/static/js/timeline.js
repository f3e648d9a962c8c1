import { get, segment } from "./api.js";
import { timeTicks } from "./axes.js";
import { Canvas } from "./canvas.js";
import { clock, compact } from "./format.js";
import { draws } from "./frame.js";
import { recall } from "./recall.js";
import { colors } from "./theme.js";

/** Recorded activity over a day as a histogram one can seek in: drag, keys, wheel to zoom. A slider to assistive tools. */
const BUCKETS = 400;
const AXIS = 14;

export class Timeline {
  constructor(element, { onSeek }) {
    this.canvas = new Canvas(element);
    this.onSeek = onSeek;
    this.range = null;
    this.shown = null;
    this.rows = [];
    this.head = null;
    this.hover = null;
    this.asked = 0;
    this.seen = "";
    this.listen(element);
    draws(this);
  }

  /** range: {first, last} in ns (BigInt) or null; spec: the instrument whose activity is drawn. */
  show(spec, range) {
    const same = this.range && range && this.range.first === range.first && this.spec === spec;
    this.spec = spec;
    this.range = range;
    if (!range) {
      this.rows = [];
      this.shown = null;
    } else if (!same || !this.shown) this.shown = { left: Number(range.first) / 1e6, right: Math.max(Number(range.last) / 1e6, Number(range.first) / 1e6 + 1000) };
    else if (this.shown.right < Number(range.last) / 1e6) this.shown.right = Number(range.last) / 1e6;
    this.load();
    this.canvas.dirty = true;
  }

  async load() {
    if (!this.range || !this.shown) return;
    const mine = ++this.asked;
    const ns = (ms) => String(BigInt(Math.round(ms * 1000)) * 1000n);
    try {
      const answer = await recall(() => get(`history/${segment(this.spec)}/activity`, { start: ns(this.shown.left), end: ns(this.shown.right + 1), buckets: BUCKETS }));
      if (mine !== this.asked) return;
      this.width = Number(answer.bucket_ns) / 1e6;
      this.rows = answer.rows.map(([start, records, trades]) => ({ t: Number(start) / 1e6, records, trades }));
    } catch {
      this.rows = []; // the slider still seeks without its picture
    }
    this.canvas.dirty = true;
  }

  setHead(ms) {
    this.head = ms;
  }

  listen(element) {
    const at = (event) => this.time(event.clientX - element.getBoundingClientRect().left);
    element.addEventListener("pointerdown", (event) => {
      if (!this.shown || event.button) return;
      element.setPointerCapture(event.pointerId);
      this.dragging = at(event);
      this.canvas.dirty = true;
    });
    element.addEventListener("pointermove", (event) => {
      if (!this.shown) return;
      this.hover = at(event);
      if (this.dragging !== null && this.dragging !== undefined) this.dragging = this.hover;
      this.canvas.dirty = true;
    });
    element.addEventListener("pointerup", () => {
      if (this.dragging !== null && this.dragging !== undefined) this.onSeek(this.dragging);
      this.dragging = null;
    });
    element.addEventListener("pointercancel", () => (this.dragging = null));
    element.addEventListener("pointerleave", () => {
      this.hover = null;
      this.canvas.dirty = true;
    });
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (this.shown) this.zoom(Math.exp(event.deltaY * 0.002), at(event));
    }, { passive: false });
    element.addEventListener("dblclick", () => this.range && this.zoom(Infinity, 0));
    element.addEventListener("keydown", (event) => {
      if (!this.shown) return;
      const span = this.shown.right - this.shown.left;
      const from = this.head ?? this.shown.right;
      const to = { ArrowLeft: from - span / 100, ArrowRight: from + span / 100, PageUp: from - span / 10, PageDown: from + span / 10, Home: Number(this.range.first) / 1e6, End: Number(this.range.last) / 1e6 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.onSeek(to);
    });
  }

  zoom(factor, around) {
    const first = Number(this.range.first) / 1e6;
    const last = Math.max(Number(this.range.last) / 1e6, first + 1000);
    const { left, right } = this.shown;
    if (factor === Infinity) this.shown = { left: first, right: last };
    else {
      const span = Math.min(last - first, Math.max(1000, (right - left) * factor));
      const share = (around - left) / (right - left);
      const start = Math.min(last - span, Math.max(first, around - span * share));
      this.shown = { left: start, right: start + span };
    }
    this.canvas.dirty = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), 150);
  }

  time(x) {
    const { left, right } = this.shown;
    return left + (Math.min(this.canvas.width, Math.max(0, x)) / this.canvas.width) * (right - left);
  }

  x(ms) {
    const { left, right } = this.shown;
    return ((ms - left) / (right - left)) * this.canvas.width;
  }

  frame() {
    if (!this.canvas.visible) return;
    const key = this.shown && this.head !== null ? Math.round(this.x(this.head) * 2) : "none";
    if (key === this.seen && !this.canvas.dirty) return;
    this.seen = key;
    this.canvas.dirty = false;
    const { element } = this.canvas;
    if (this.shown) {
      element.setAttribute("aria-valuemin", Math.round(this.shown.left / 1000));
      element.setAttribute("aria-valuemax", Math.round(this.shown.right / 1000));
      element.setAttribute("aria-valuenow", Math.round((this.head ?? this.shown.right) / 1000));
      element.setAttribute("aria-valuetext", `${clock(this.head ?? this.shown.right)} UTC`);
    }
    this.draw(this.canvas.begin());
  }

  draw(c) {
    const { width: w, height: H } = this.canvas;
    const h = H - AXIS;
    c.clearRect(0, 0, w, H);
    c.textBaseline = "middle";
    c.font = `11px ${colors.sans}`;
    if (!this.shown) {
      c.fillStyle = colors.muted;
      c.textAlign = "left";
      c.fillText("nothing recorded yet", 8, H / 2);
      return;
    }
    let most = 1;
    for (const r of this.rows) most = Math.max(most, r.records);
    const bar = Math.max(1, this.rows.length ? this.x(this.rows[0].t + this.width) - this.x(this.rows[0].t) - 0.5 : 1);
    const head = this.dragging ?? this.head;
    for (const r of this.rows) {
      const x = this.x(r.t);
      const height = Math.max(1, Math.sqrt(r.records / most) * (h - 4));
      c.fillStyle = head !== null && r.t <= head ? colors.accent : colors.faint;
      c.globalAlpha = head !== null && r.t <= head ? 0.75 : 0.55;
      c.fillRect(x, h - height, bar, height);
    }
    c.globalAlpha = 1;
    c.fillStyle = colors.line;
    c.fillRect(0, h, w, 1);
    c.font = `10px ${colors.mono}`;
    c.fillStyle = colors.muted;
    c.textAlign = "center";
    for (const [t, text] of timeTicks(this.shown.left, this.shown.right, Math.max(2, w / 90))) {
      const x = this.x(t);
      if (x > 24 && x < w - 24) c.fillText(text.replace(/:00$/, ""), x, h + AXIS / 2 + 1);
    }
    if (head !== null) {
      c.fillStyle = colors.text;
      c.fillRect(this.x(head) - 0.75, 0, 1.5, h);
    }
    if (this.hover !== null) this.drawHover(c, w, h);
  }

  drawHover(c, w, h) {
    const x = this.x(this.hover);
    c.fillStyle = colors.muted;
    c.fillRect(x, 0, 1, h);
    const row = this.rows.find((r) => r.t <= this.hover && this.hover < r.t + this.width);
    const text = `${clock(this.hover, 1)}${row ? ` · ${compact(row.records)} records` : ""}`;
    c.font = `500 11px ${colors.mono}`;
    const width = c.measureText(text).width + 12;
    const left = Math.min(w - width - 2, Math.max(2, x + 6));
    c.fillStyle = colors.raised;
    c.fillRect(left, 1, width, 18);
    c.fillStyle = colors.text;
    c.textAlign = "left";
    c.fillText(text, left + 6, 10.5);
  }
}
