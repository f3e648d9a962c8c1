/**
 * The book over time, for the heatmap: one ring of columns a resolution (flat arrays, so memory does not grow and nothing
 * is left for the garbage collector). A column holds the state at its end, lasts until the next one, and is only written
 * when the book changed; `gap` writes an empty one.
 */
export const LEVELS = 128;

export class ColumnRing {
  constructor(stepMs, capacity) {
    this.stepMs = stepMs;
    this.capacity = capacity;
    this.clear();
  }

  clear() {
    this.length = 0;
    this.head = 0;
    this.bucket = null;
  }

  allocate() {
    const n = this.capacity;
    this.t = new Float64Array(n);
    this.base = new Float64Array(n);
    this.bid = new Float64Array(n);
    this.ask = new Float64Array(n);
    this.bids = new Uint16Array(n);
    this.asks = new Uint16Array(n);
    this.offset = new Int16Array(n * LEVELS * 2);
    this.size = new Float32Array(n * LEVELS * 2);
  }

  /** Slot of the i-th column, oldest first. */
  slot(i) {
    return (this.head + i) % this.capacity;
  }

  get first() {
    return this.length ? this.t[this.slot(0)] : null;
  }

  get last() {
    return this.length ? this.t[this.slot(this.length - 1)] : null;
  }

  take(ms) {
    if (!this.t) this.allocate();
    if (this.length < this.capacity) this.length++;
    else this.head = (this.head + 1) % this.capacity;
    const slot = this.slot(this.length - 1);
    this.t[slot] = ms;
    this.bids[slot] = 0;
    this.asks[slot] = 0;
    this.bid[slot] = NaN;
    this.ask[slot] = NaN;
    return slot;
  }

  write(ms, book) {
    const slot = this.take(ms);
    const bid = book.bid;
    const ask = book.ask;
    const base = bid ? bid.row : ask ? ask.row : 0;
    this.base[slot] = base;
    if (bid) this.bid[slot] = bid.row;
    if (ask) this.ask[slot] = ask.row;
    this.bids[slot] = this.fill(slot * LEVELS * 2, book.bids.levels, base);
    this.asks[slot] = this.fill(slot * LEVELS * 2 + LEVELS, book.asks.levels, base);
  }

  fill(at, levels, base) {
    let n = 0;
    for (const level of levels) {
      const off = level.row - base;
      if (n === LEVELS || off > 32000 || off < -32000) break;
      this.offset[at + n] = off;
      this.size[at + n] = level.size;
      n++;
    }
    return n;
  }

  /** Puts the columns of a later ring behind ours. */
  append(later) {
    for (let i = 0; i < later.length; i++) {
      const from = later.slot(i);
      if (this.length && later.t[from] < this.last) continue;
      const to = this.length && later.t[from] === this.last ? this.slot(this.length - 1) : this.take(later.t[from]);
      for (const name of ["base", "bid", "ask", "bids", "asks"]) this[name][to] = later[name][from];
      const n = LEVELS * 2;
      this.offset.set(later.offset.subarray(from * n, from * n + n), to * n);
      this.size.set(later.size.subarray(from * n, from * n + n), to * n);
    }
    this.bucket = later.bucket ?? this.bucket;
  }

  /** Index of the last column that began at or before ms; −1: none. */
  find(ms) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.t[this.slot(mid)] <= ms) low = mid + 1;
      else high = mid;
    }
    return low - 1;
  }
}

export class Columns {
  constructor() {
    this.rings = [new ColumnRing(100, 3000), new ColumnRing(1000, 2400), new ColumnRing(10_000, 2160)];
    this.changed = false;
    this.now = 0;
  }

  clear() {
    for (const ring of this.rings) ring.clear();
    this.changed = false;
    this.now = 0;
  }

  /** Called before an event at `ms` changes the book: closes the columns that ended before it. */
  before(ms, book) {
    if (ms < this.now - 5000) this.clear();
    for (const ring of this.rings) {
      const bucket = Math.floor(ms / ring.stepMs);
      if (ring.bucket === null) ring.bucket = bucket;
      else if (bucket > ring.bucket) {
        if (this.now) ring.write(ring.bucket * ring.stepMs, book);
        ring.bucket = bucket;
      }
    }
    if (ms > this.now) this.now = ms;
  }

  append(later) {
    for (const [k, ring] of this.rings.entries()) ring.append(later.rings[k]);
    this.now = Math.max(this.now, later.now);
  }

  gap(ms) {
    for (const ring of this.rings) {
      if (ring.length) ring.take(Math.max(ms, ring.last));
      ring.bucket = null;
    }
  }

  /** The finest ring that has at most `most` columns in spanMs. */
  pick(spanMs, most) {
    return this.rings.find((ring) => spanMs / ring.stepMs <= most) ?? this.rings.at(-1);
  }
}
