import { Canvas } from "./canvas.js";
import { $ } from "./dom.js";
import { draws } from "./frame.js";
import { colors } from "./theme.js";

/**
 * A list that grows at the top, drawn: newest first, scrolls back over what is kept, and stands still while one reads
 * (`held`). A subclass gives `items()` (oldest first), `version()`, `passes(item)`, `header` and `drawRow(c, item, y, w)`.
 */
const ROW = 18;
const HEAD = 20;

export class RowsCanvas {
  constructor(root) {
    this.offset = 0;
    this.held = null;
    this.seen = "";
    this.canvas = new Canvas($("canvas", root));
    const { element } = this.canvas;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.scroll(Math.sign(event.deltaY) * Math.max(1, Math.round(Math.abs(event.deltaY) / ROW)));
    }, { passive: false });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("pointermove", (event) => {
      if (this.touchY !== null && this.touchY !== undefined) {
        const rows = Math.round((this.touchY - event.clientY) / ROW);
        if (rows) {
          this.scroll(-rows);
          this.touchY = event.clientY;
        }
      }
      this.hover = event.offsetY > HEAD ? Math.floor((event.offsetY - HEAD) / ROW) : null;
      this.seen = "";
    });
    element.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch") this.touchY = event.clientY;
    });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => (this.touchY = null));
    element.addEventListener("pointerleave", () => {
      this.hover = null;
      this.seen = "";
    });
    element.addEventListener("click", (event) => {
      const item = this.shown?.[Math.floor((event.offsetY - HEAD) / ROW)];
      if (item && event.offsetY > HEAD) this.pick?.(item);
    });
    this.stop = draws(this);
  }

  destroy() {
    this.stop();
    this.canvas.destroy();
  }

  key(event) {
    const page = Math.max(1, Math.floor((this.canvas.height - HEAD) / ROW) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[event.key];
    if (by) this.scroll(by);
    else if (event.key === "Home" || (event.key === "Escape" && this.held)) this.release();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  scroll(rows) {
    if (!this.held && rows > 0) this.held = this.items().slice();
    this.offset = Math.max(0, this.offset + rows);
    if (this.offset === 0) this.held = null;
    this.seen = "";
  }

  release() {
    this.offset = 0;
    this.held = null;
    this.seen = "";
  }

  frame(now, beat) {
    if (!this.canvas.visible || (!beat && this.seen !== "")) return;
    const key = `${this.held ? "held" : this.version()}.${this.offset}`;
    if (key === this.seen && !this.canvas.dirty) return;
    this.seen = key;
    this.canvas.dirty = false;
    this.draw(this.canvas.begin());
  }

  draw(c) {
    const { width: w, height: h } = this.canvas;
    c.fillStyle = colors.panel;
    c.fillRect(0, 0, w, h);
    const fits = Math.ceil((h - HEAD) / ROW);
    const items = this.held ?? this.items();
    this.shown = [];
    let skip = this.offset;
    for (let k = items.length - 1; k >= 0 && this.shown.length < fits; k--) {
      if (!this.passes(items[k])) continue;
      if (skip-- > 0) continue;
      this.shown.push(items[k]);
    }
    c.textBaseline = "middle";
    this.begin?.(c, w);
    for (const [k, item] of this.shown.entries()) {
      const y = HEAD + k * ROW;
      if (k === this.hover) {
        c.fillStyle = colors.hover;
        c.fillRect(0, y, w, ROW);
      }
      this.drawRow(c, item, y, w, ROW);
    }
    c.fillStyle = colors.raised;
    c.fillRect(0, 0, w, HEAD);
    c.fillStyle = colors.line;
    c.fillRect(0, HEAD - 1, w, 1);
    c.font = `500 10.5px ${colors.sans}`;
    c.fillStyle = colors.muted;
    for (const [text, x, align] of this.header(w)) {
      c.textAlign = align;
      c.fillText(text, x, HEAD / 2);
    }
    if (!this.shown.length) {
      c.textAlign = "center";
      c.font = `12px ${colors.sans}`;
      c.fillText(this.emptyText, w / 2, HEAD + 34);
    }
    if (this.held) this.drawHeld(c, w, h);
  }

  drawHeld(c, w, h) {
    const text = "scrolled back · Home follows again";
    c.font = `500 11px ${colors.sans}`;
    const width = c.measureText(text).width + 20;
    c.fillStyle = colors.accent;
    c.beginPath();
    c.roundRect((w - width) / 2, h - 28, width, 20, 4);
    c.fill();
    c.fillStyle = colors.onAccent;
    c.textAlign = "center";
    c.fillText(text, w / 2, h - 18);
  }
}
