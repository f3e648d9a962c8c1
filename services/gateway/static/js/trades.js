/** Trades of one instrument: the last ones as objects (tape) and many as flat numbers (bubbles, bounded, no garbage). */
const TAPE = 1000;
const MANY = 20_000;

export class Trades {
  constructor() {
    this.tape = [];
    this.t = new Float64Array(MANY);
    this.row = new Float64Array(MANY);
    this.size = new Float32Array(MANY);
    this.side = new Int8Array(MANY);
    this.clear();
  }

  clear() {
    this.tape.length = 0;
    this.length = 0;
    this.head = 0;
    this.volume = 0;
    this.buys = 0;
    this.sells = 0;
    this.last = null;
    this.direction = 0;
    this.mark = null;
    this.version = (this.version ?? 0) + 1;
  }

  slot(i) {
    return (this.head + i) % MANY;
  }

  /** False when it was seen before: not after our last of that session, in the order of (end, ordinal). */
  isNew(e) {
    const m = this.mark;
    if (m && m.session === e.session && (e.end < m.end || (e.end === m.end && e.ordinal <= m.ordinal))) return false;
    this.mark = { session: e.session, end: e.end, ordinal: e.ordinal };
    return true;
  }

  add(trade) {
    if (this.tape.length >= TAPE * 2) this.tape.splice(0, TAPE);
    this.tape.push(trade);
    if (trade.px !== null && this.last && this.last.px !== null) this.direction = trade.px > this.last.px ? 1 : trade.px < this.last.px ? -1 : this.direction;
    this.last = trade;
    this.volume += trade.size;
    if (trade.side === "B") this.buys += trade.size;
    else if (trade.side === "A") this.sells += trade.size;
    if (trade.px !== null) this.keep(trade);
    this.version++;
  }

  keep(trade) {
    this.put(trade.ms, trade.row, trade.size, trade.side === "B" ? 1 : trade.side === "A" ? -1 : 0);
  }

  put(ms, row, size, side) {
    if (this.length < MANY) this.length++;
    else this.head = (this.head + 1) % MANY;
    const slot = this.slot(this.length - 1);
    this.t[slot] = ms;
    this.row[slot] = row;
    this.size[slot] = size;
    this.side[slot] = side;
  }

  /** Puts later trades behind ours. */
  append(later) {
    for (let k = 0; k < later.length; k++) {
      const slot = later.slot(k);
      this.put(later.t[slot], later.row[slot], later.size[slot], later.side[slot]);
    }
    this.tape = [...this.tape, ...later.tape].slice(-TAPE * 2);
    for (const name of ["volume", "buys", "sells"]) this[name] += later[name];
    this.last = later.last ?? this.last;
    this.direction = later.direction || this.direction;
    this.mark = later.mark ?? this.mark;
    this.version++;
  }

  /** Index of the first kept trade at or after ms. */
  find(ms) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.t[this.slot(mid)] < ms) low = mid + 1;
      else high = mid;
    }
    return low;
  }
}
