/** What part of time and price a chart shows: follows the newest time and the market until it is panned away. */
const MIN_SPAN_MS = 2000;
const MAX_SPAN_MS = 6 * 3_600_000;

export class HeatView {
  constructor() {
    this.span = 120_000;
    this.end = null;
    this.center = null;
    this.rows = null;
    this.followPrice = true;
    this.now = 0;
  }

  get right() {
    return this.end ?? this.now + this.span * 0.02;
  }

  get left() {
    return this.right - this.span;
  }

  follow() {
    this.end = null;
    this.followPrice = true;
  }

  get following() {
    return this.end === null && this.followPrice;
  }

  panTime(ms) {
    const end = this.right + ms;
    this.end = end >= this.now + this.span * 0.02 ? null : end;
  }

  panPrice(rows) {
    if (this.rows === null) return;
    this.followPrice = false;
    this.center += rows;
  }

  zoomTime(factor, share = 1) {
    const span = Math.min(MAX_SPAN_MS, Math.max(MIN_SPAN_MS, this.span * factor));
    if (this.end !== null) {
      const fixed = this.left + this.span * share;
      this.end = fixed + span * (1 - share);
    }
    this.span = span;
  }

  zoomPrice(factor, share = 0.5) {
    if (this.rows === null) return;
    const rows = Math.min(5e6, Math.max(6, this.rows * factor));
    if (!this.followPrice) this.center += (0.5 - share) * (this.rows - rows);
    this.rows = rows;
  }

  /** Fits the price axis to the book the first time, and keeps the market within the middle of the picture. */
  advance(book, now, still) {
    this.now = now;
    const { bid, ask } = book;
    if (!bid && !ask) return;
    const mid = ((bid ?? ask).row + (ask ?? bid).row) / 2;
    if (this.rows === null) {
      const at = (side, n) => Math.abs((side.levels[Math.min(n, side.levels.length - 1)]?.row ?? mid) - mid);
      const far = (side) => Math.min(at(side, 24), at(side, 7) * 3.2);
      this.rows = Math.min(4000, Math.max(30, Math.max(far(book.bids), far(book.asks)) * 2.1));
      this.center = mid;
    }
    if (!this.followPrice) return;
    const off = mid - this.center;
    if (Math.abs(off) > this.rows) this.center = mid;
    else if (still) {
      if (Math.abs(off) > this.rows * 0.3) this.center = mid;
    } else if (Math.abs(off) > this.rows * 0.16) this.gliding = true;
    if (this.gliding) {
      this.center += off * 0.06;
      if (Math.abs(off) < this.rows * 0.01) this.gliding = false;
    }
  }
}
