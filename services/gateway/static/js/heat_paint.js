import { rowStep, timeTicks } from "./axes.js";
import { bubbles } from "./bubbles.js";
import { LEVELS } from "./columns.js";
import { clock, compact } from "./format.js";
import { formatPrice } from "./price.js";
import { colors } from "./theme.js";

/** How the heatmap looks: cells, best prices, bubbles, axes, crosshair. What it shows and obeys is heatmap.js, which extends this. */
export const AXIS_Y = 20;
const BUBBLE_PX = 9; // trades closer than this are one bubble
const BUBBLE_MAX_PX = 14;
const TAG_PX = 17; // height of a price on the axis

export class HeatPaint {
  y(row) {
    return this.plotHeight / 2 - (row - this.view.center) * (this.plotHeight / this.view.rows);
  }

  x(ms) {
    return this.plotWidth - (this.view.right - ms) * (this.plotWidth / this.view.span);
  }

  draw(c, i, now) {
    const { width: w, height: h } = this.canvas;
    const places = i.grid.places;
    this.axisWidth = Math.max(52, (i.grid.ready ? Math.max(i.grid.text(this.view.center ?? 0).length, 5) : 6) * 6.7 + 14);
    this.profileWidth = this.small || w < 440 ? 0 : 64;
    this.margin = this.axisWidth + this.profileWidth;
    c.fillStyle = colors.panel;
    c.fillRect(0, 0, w, h);
    if (this.view.rows === null || !i.grid.ready) {
      c.fillStyle = colors.muted;
      c.font = `13px ${colors.sans}`;
      c.textAlign = "center";
      c.textBaseline = "middle";
      c.fillText(i.session === null ? "waiting for the book…" : "the book is empty", w / 2, h / 2);
      return;
    }
    const W = this.plotWidth;
    const H = this.plotHeight;
    c.save();
    c.beginPath();
    c.rect(0, 0, W, H);
    c.clip();
    this.drawCells(c, i, W, H, now);
    this.drawLines(c, i, W);
    if (this.app.state.get("bubbles")) this.drawBubbles(c, i, W);
    c.restore();
    this.drawProfile(c, i, W, H);
    this.drawAxes(c, i, W, H, w, h);
    this.drawTags(c, i, W, H, w, places);
    if (this.cursor) this.drawCross(c, i, W, H, w, places);
  }

  drawCells(c, i, W, H, now) {
    const { view, texture } = this;
    const ring = i.columns.pick(view.span, Math.min(1400, W * 1.1));
    this.ring = ring;
    texture.sample(ring, i.book, now);
    const step = ring.stepMs;
    const first = Math.floor(view.left / step);
    const width = Math.ceil(view.right / step) - first + 1;
    const per = Math.max(1, Math.ceil(view.rows / H));
    const top = Math.ceil((view.center + view.rows / 2) / per) * per + per;
    const height = Math.ceil(view.rows / per) + 3;
    const liveTo = Math.floor(view.now / step);
    texture.fill(ring, first, width, top, height, per, i.book, ring.bucket ?? liveTo + 1, ring.bucket === null ? -1 : liveTo, this.app.state.get("contrast"));
    const rowPx = H / view.rows;
    const columnPx = (W / view.span) * step;
    c.imageSmoothingEnabled = false;
    const y = this.y(top + 0.5);
    const x = this.x(first * step);
    const right = Math.min(width, (view.now - first * step) / step);
    if (right > 0) c.drawImage(texture.canvas, 0, 0, right, height, x, y, right * columnPx, height * per * rowPx);
  }

  drawLines(c, i, W) {
    const { view, ring } = this;
    const from = Math.max(0, ring.find(view.left));
    for (const [column, level, color] of [[ring.bid, i.book.bid, colors.bid], [ring.ask, i.book.ask, colors.ask]]) {
      if (!column) continue;
      c.beginPath();
      let pen = false;
      let y = 0;
      for (let k = from; k < ring.length; k++) {
        const slot = ring.slot(k);
        const x = this.x(ring.t[slot]);
        if (x > W) break;
        const row = column[slot];
        if (Number.isNaN(row)) {
          if (pen) c.lineTo(x, y);
          pen = false;
          continue;
        }
        const next = this.y(row);
        if (pen) {
          c.lineTo(x, y);
          if (next !== y) c.lineTo(x, next);
        } else c.moveTo(x, next);
        pen = true;
        y = next;
      }
      if (level && ring.bucket !== null) {
        const x = this.x(ring.bucket * ring.stepMs);
        const next = this.y(level.row);
        if (pen) c.lineTo(x, y);
        else c.moveTo(x, next);
        c.lineTo(x, next);
        c.lineTo(this.x(view.now), next);
      }
      c.strokeStyle = color;
      c.lineWidth = 1.3;
      c.stroke();
    }
  }

  drawBubbles(c, i, W) {
    const { view } = this;
    const found = bubbles(i.trades, view.left, view.right, BUBBLE_PX * (view.span / W));
    let largest = 1;
    for (const { size } of found) if (size > largest) largest = size;
    this.bubbleMax = this.bubbleMax ? this.bubbleMax + (largest - this.bubbleMax) * 0.08 : largest;
    c.lineWidth = 1;
    c.strokeStyle = colors.panel;
    for (const { t, row, side, size } of found) {
      const radius = Math.max(1.4, Math.min(BUBBLE_MAX_PX, BUBBLE_MAX_PX * Math.sqrt(size / this.bubbleMax)));
      c.beginPath();
      c.arc(this.x(t), this.y(row), radius, 0, 6.2832);
      c.globalAlpha = 0.8;
      c.fillStyle = side > 0 ? colors.bid : side < 0 ? colors.ask : colors.muted;
      c.fill();
      if (radius > 3) c.stroke();
    }
    c.globalAlpha = 1;
  }

  /** The book as it is now, beside the newest column. */
  drawProfile(c, i, W, H) {
    if (!this.profileWidth) return;
    const rowPx = H / this.view.rows;
    c.save();
    c.beginPath();
    c.rect(W, 0, this.profileWidth, H);
    c.clip();
    let most = 1;
    const low = this.view.center - this.view.rows / 2;
    const high = this.view.center + this.view.rows / 2;
    const shown = [];
    for (const [side, color] of [[i.book.bids, colors.bid], [i.book.asks, colors.ask]])
      for (const level of side.levels) {
        if (level.row < low || level.row > high) continue;
        most = Math.max(most, level.size);
        shown.push([level, color]);
      }
    c.globalAlpha = 0.62;
    for (const [level, color] of shown) {
      c.fillStyle = color;
      c.fillRect(W + 1, this.y(level.row + 0.5) + (rowPx > 4 ? 0.5 : 0), (level.size / most) * (this.profileWidth - 6), Math.max(1, rowPx - (rowPx > 4 ? 1 : 0)));
    }
    c.globalAlpha = 1;
    c.restore();
    c.fillStyle = colors.line;
    c.fillRect(W, 0, 1, H);
  }

  drawAxes(c, i, W, H, w, h) {
    c.fillStyle = colors.raised;
    c.fillRect(0, H, w, h - H);
    c.fillRect(W + this.profileWidth, 0, this.axisWidth, h);
    c.fillStyle = colors.line;
    c.fillRect(0, H, w, 1);
    c.fillRect(W + this.profileWidth, 0, 1, h);
    c.font = `11px ${colors.mono}`;
    c.fillStyle = colors.muted;
    c.textBaseline = "middle";
    c.textAlign = "center";
    for (const [t, text] of timeTicks(this.view.left, this.view.right, W / 90)) {
      const x = this.x(t);
      if (x > 28 && x < W - 20) c.fillText(text, x, H + AXIS_Y / 2 + 0.5);
    }
    c.textAlign = "right";
    const step = rowStep(this.view.rows, H / 30);
    const low = this.view.center - this.view.rows / 2;
    const tags = this.tags(i, H);
    for (let row = Math.ceil(low / step) * step; row < low + this.view.rows; row += step) {
      const y = this.y(row);
      const hidden = tags.some((tag) => Math.abs(tag.y - y) < TAG_PX - 3);
      if (y > 8 && y < H - 8 && !hidden) c.fillText(i.grid.text(row), w - 6, y);
    }
  }

  tag(c, y, text, fill, ink, W, w) {
    c.fillStyle = fill;
    c.fillRect(W + this.profileWidth + 1, y - TAG_PX / 2, w - W - this.profileWidth - 1, TAG_PX);
    c.fillStyle = ink;
    c.fillText(text, w - 6, y + 0.5);
  }

  /** The best prices on the axis, where they stand in pixels: moved apart where they would overlap. */
  tags(i, H) {
    const { bid, ask } = i.book;
    const at = (level, color, down) => ({ y: this.y(level.row), px: level.px, color, down });
    const tags = [...(ask ? [at(ask, colors.ask, -1)] : []), ...(bid ? [at(bid, colors.bid, 1)] : [])];
    if (tags.length === 2 && Math.abs(tags[0].y - tags[1].y) < TAG_PX) {
      const middle = (tags[0].y + tags[1].y) / 2;
      for (const tag of tags) tag.y = middle + tag.down * (TAG_PX + 1) / 2;
    }
    return tags.filter(({ y }) => y > 0 && y < H);
  }

  drawTags(c, i, W, H, w, places) {
    c.font = `600 11px ${colors.mono}`;
    c.textAlign = "right";
    for (const { y, px, color } of this.tags(i, H)) this.tag(c, y, formatPrice(px, places), color, colors.panel, W, w);
    const last = i.trades.last?.px != null ? i.trades.last : null;
    const y = last ? this.y(last.row) : 0;
    if (y > 0 && y < H) {
      c.fillStyle = colors.accent;
      c.beginPath();
      c.moveTo(W + this.profileWidth + 1, y - 4);
      c.lineTo(W + this.profileWidth + 6, y);
      c.lineTo(W + this.profileWidth + 1, y + 4);
      c.fill();
    }
  }

  sizeAt(i, ms, row) {
    const { ring } = this;
    if (ms > this.view.now) return null;
    if (ring.bucket !== null && ms >= ring.bucket * ring.stepMs) {
      for (const side of [i.book.bids, i.book.asks]) for (const level of side.levels) if (level.row === row) return level.size;
      return 0;
    }
    const index = ring.find(ms);
    if (index < 0) return null;
    const slot = ring.slot(index);
    const at = slot * LEVELS * 2;
    for (let k = at; k < at + ring.bids[slot]; k++) if (ring.base[slot] + ring.offset[k] === row) return ring.size[k];
    for (let k = at + LEVELS; k < at + LEVELS + ring.asks[slot]; k++) if (ring.base[slot] + ring.offset[k] === row) return ring.size[k];
    return Number.isNaN(ring.bid[slot]) && Number.isNaN(ring.ask[slot]) ? null : 0;
  }

  drawCross(c, i, W, H, w, places) {
    const { x, y } = this.cursor;
    if (x > W || y > H) return;
    const row = Math.round(this.view.center + (H / 2 - y) * (this.view.rows / H));
    const ms = this.view.right - (W - x) * (this.view.span / W);
    c.strokeStyle = colors.muted;
    c.lineWidth = 1;
    c.setLineDash([3, 3]);
    c.beginPath();
    c.moveTo(Math.round(x) + 0.5, 0);
    c.lineTo(Math.round(x) + 0.5, H);
    c.moveTo(0, Math.round(this.y(row)) + 0.5);
    c.lineTo(W + this.profileWidth, Math.round(this.y(row)) + 0.5);
    c.stroke();
    c.setLineDash([]);
    const size = this.sizeAt(i, ms, row);
    const text = `${clock(ms, 1)}   ${formatPrice(i.grid.price(row), places)}   ${size === null ? "no data" : `size ${compact(size)}`}`;
    c.font = `500 11px ${colors.mono}`;
    const width = c.measureText(text).width + 16;
    const left = Math.min(Math.max(4, x + 12), W - width - 4);
    const top = y > 40 ? y - 32 : y + 14;
    c.fillStyle = colors.raised;
    c.strokeStyle = colors.lineStrong;
    c.beginPath();
    c.roundRect(left + 0.5, top + 0.5, width, 22, 4);
    c.fill();
    c.stroke();
    c.fillStyle = colors.text;
    c.textAlign = "left";
    c.fillText(text, left + 8, top + 12);
    c.textAlign = "right";
    this.tag(c, this.y(row), formatPrice(i.grid.price(row), places), colors.lineStrong, colors.text, W, w);
  }
}
