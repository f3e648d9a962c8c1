import { parsePrice } from "./price.js";

/**
 * Aggregated levels of one book, kept by the protocol's rule: a snapshot replaces everything, a row [price, size, count]
 * sets a level, size 0 deletes it. Levels are keyed by the price's own text (exact) and kept sorted, best first.
 */
class Side {
  constructor(sign) {
    this.sign = sign;
    this.byPrice = new Map();
    this.levels = [];
  }

  clear() {
    this.byPrice.clear();
    this.levels.length = 0;
  }

  /** Index of the first level that is not better than px. */
  find(px) {
    let low = 0;
    let high = this.levels.length;
    const up = this.sign < 0;
    while (low < high) {
      const mid = (low + high) >> 1;
      const at = this.levels[mid].px;
      if (up ? at < px : at > px) low = mid + 1;
      else high = mid;
    }
    return low;
  }

  /** Sets or deletes a level; returns it (size 0 when it is gone), or null when nothing was there to delete. */
  set(text, size, count, now) {
    let level = this.byPrice.get(text);
    if (size === 0) {
      if (!level) return null;
      this.byPrice.delete(text);
      this.levels.splice(this.find(level.px), 1);
      level.change = -level.size;
      level.size = 0;
      level.count = 0;
      return level;
    }
    if (level) {
      level.change = size - level.size;
      level.size = size;
      level.count = count;
    } else {
      level = { px: parsePrice(text), text, size, count, row: 0, change: size, at: now };
      this.byPrice.set(text, level);
      this.levels.splice(this.find(level.px), 0, level);
    }
    level.at = now;
    return level;
  }
}

export class Book {
  constructor() {
    this.bids = new Side(1);
    this.asks = new Side(-1);
    this.version = 0;
    this.crossed = false;
    this.stale = false;
    this.auction = null;
    this.venues = null;
  }

  clear() {
    this.bids.clear();
    this.asks.clear();
    Object.assign(this, { crossed: false, stale: false, auction: null, venues: null });
    this.version++;
  }

  snapshot(e, now) {
    this.bids.clear();
    this.asks.clear();
    this.delta({ ...e, venues: e.venues ?? null }, now - 60_000);
  }

  /** Applies rows and whatever state members the event has. `touched(side, level)` is told of each level. */
  delta(e, now, touched = null) {
    for (const [price, size, count] of e.bids) {
      const level = this.bids.set(price, size, count, now);
      if (level) touched?.(this.bids, level);
    }
    for (const [price, size, count] of e.asks) {
      const level = this.asks.set(price, size, count, now);
      if (level) touched?.(this.asks, level);
    }
    if ("crossed" in e) this.crossed = e.crossed;
    if ("stale" in e) this.stale = e.stale;
    if ("auction" in e) this.auction = e.auction;
    if ("venues" in e) this.venues = e.venues;
    this.version++;
  }

  get bid() {
    return this.bids.levels[0] ?? null;
  }

  get ask() {
    return this.asks.levels[0] ?? null;
  }

  /** The wire's form, best first: [[price, size, count], …] a side, at most n levels. */
  rows(n = Infinity) {
    const plain = (side) => side.levels.slice(0, n).map((l) => [l.text, l.size, l.count]);
    return { bids: plain(this.bids), asks: plain(this.asks) };
  }
}
