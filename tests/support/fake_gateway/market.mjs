import { makeRng } from "./rng.mjs";

/**
 * One made-up instrument: a book of orders in queue order that random adds, cancels, modifies and market orders move.
 * Prices inside are whole ticks (Number); outside they are exact decimal strings. `step(ts)` makes one event and tells
 * its MBO rows (schema mbo_row), the levels it touched and its trades. The same seed and times give the same market.
 */
const UNIT = 1_000_000_000n;

export function decimal(nanos) {
  const sign = nanos < 0n ? "-" : "";
  const abs = nanos < 0n ? -nanos : nanos;
  const fraction = (abs % UNIT).toString().padStart(9, "0").replace(/0+$/, "");
  return `${sign}${abs / UNIT}${fraction ? "." + fraction : ""}`;
}

export class Market {
  constructor({ symbol, seed, tick, mid, publisher = 1, depth = 34, lot = 1 }) {
    Object.assign(this, { symbol, seed, tick: BigInt(tick), start: mid, mid, publisher, depth, lot });
    this.origin = BigInt(tick);
    this.rng = makeRng(seed);
    this.orders = new Map();
    this.ids = [];
    this.levels = { B: new Map(), A: new Map() };
    this.ordinal = 0;
    this.sequence = 800_000 + (seed % 1000);
    this.nextId = 6_871_000_000n + BigInt(seed % 100_000);
    this.trend = 0;
    this.last = null;
    this.seedBook();
  }

  price(px) {
    return decimal(this.tick * BigInt(px));
  }

  seedBook() {
    const ts = 0n;
    for (let d = 1; d <= this.depth; d++) {
      for (const side of ["B", "A"]) {
        const px = side === "B" ? this.start - d : this.start + d;
        const n = 1 + this.rng.int(4 + Math.min(d, 6));
        for (let i = 0; i < n; i++) this.add(side, px, this.size(d), ts);
        if (px % 10 === 0) this.add(side, px, 25 + this.rng.int(60), ts, true);
      }
    }
    this.rows = [];
    this.touched = new Set();
  }

  size(distance) {
    return this.lot * (1 + this.rng.geometric(distance < 3 ? 0.45 : 0.25));
  }

  best(side) {
    let best = null;
    for (const px of this.levels[side].keys())
      if (best === null || (side === "B" ? px > best : px < best)) best = px;
    return best;
  }

  touch(side, px) {
    this.touched?.add(side + px);
  }

  add(side, px, size, ts, wall = false) {
    const id = String(this.nextId++);
    const order = { id, side, px, size, ts, wall, slot: this.ids.length };
    this.orders.set(id, order);
    this.ids.push(id);
    this.enqueue(order);
    return order;
  }

  enqueue(order) {
    let level = this.levels[order.side].get(order.px);
    if (!level) this.levels[order.side].set(order.px, (level = new Map()));
    level.set(order.id, order);
    this.touch(order.side, order.px);
  }

  dequeue(order) {
    const level = this.levels[order.side].get(order.px);
    level.delete(order.id);
    if (!level.size) this.levels[order.side].delete(order.px);
    this.touch(order.side, order.px);
  }

  remove(order) {
    this.dequeue(order);
    this.orders.delete(order.id);
    const lastId = this.ids.pop();
    if (lastId !== order.id) {
      this.ids[order.slot] = lastId;
      this.orders.get(lastId).slot = order.slot;
    }
  }

  row(action, order, size, effect, before, after, ts, why = null, side = order.side) {
    this.rows.push([
      ++this.ordinal, action, side, this.price(order.px), size, order.id, 0, String(ts - 150_000n), String(ts),
      ++this.sequence, this.publisher, effect, before, after, why,
    ]);
  }

  step(ts) {
    this.rows = [];
    this.touched = new Set();
    const trades = [];
    const dice = this.rng.next();
    if (this.rng.next() < 0.004) this.trend = (this.rng.next() - 0.5) * 0.5;
    const bid = this.best("B");
    const ask = this.best("A");
    const thin = (side) => this.levels[side].size < this.depth;
    if (bid === null || ask === null || (dice < 0.47 && this.orders.size < this.depth * 16) || this.orders.size < this.depth * 5) this.stepAdd(ts, bid, ask);
    else if (dice < 0.83 && ((!thin("B") && !thin("A")) || this.orders.size > this.depth * 11)) this.stepCancel(ts);
    else if (dice < 0.93) this.stepModify(ts);
    else this.stepTrade(ts, trades);
    if (!this.rows.length) this.stepAdd(ts, this.best("B"), this.best("A"));
    this.rows.at(-1)[6] |= 128;
    const end = this.ordinal;
    for (const t of trades) t.end = end;
    return { ts, rows: this.rows, touched: this.touched, trades, end };
  }

  stepAdd(ts, bid, ask) {
    const counts = { B: this.levels.B.size, A: this.levels.A.size };
    const side = counts.B === counts.A ? (this.rng.next() < 0.5 ? "B" : "A") : counts.B < counts.A ? "B" : "A";
    const lone = this.rng.next();
    const wall = lone < 0.012;
    let distance = wall ? 4 + this.rng.int(24) : Math.min(this.depth - 1, this.rng.geometric(0.13));
    if (lone > 0.86 && ask !== null && bid !== null && ask - bid > 1) distance = -1;
    const far = side === "B" ? bid ?? (ask ?? this.start) - 1 : ask ?? (bid ?? this.start) + 1;
    let px = side === "B" ? far - distance : far + distance;
    if (side === "B" && ask !== null) px = Math.min(px, ask - 1);
    if (side === "A" && bid !== null) px = Math.max(px, bid + 1);
    if (wall) px = Math.round(px / 5) * 5;
    if (wall && ((side === "B" && ask !== null && px >= ask) || (side === "A" && bid !== null && px <= bid))) return;
    const order = this.add(side, px, wall ? this.lot * (30 + this.rng.int(120)) : this.size(distance), ts, wall);
    this.row("A", order, order.size, "added", 0, order.size, ts);
  }

  choose() {
    for (let i = 0; i < 4; i++) {
      const order = this.orders.get(this.rng.pick(this.ids));
      if (!order.wall || this.rng.next() < 0.03) return order;
    }
    return null;
  }

  stepCancel(ts) {
    const order = this.choose();
    if (!order) return;
    if (order.size > 3 && this.rng.next() < 0.2) {
      const cut = 1 + this.rng.int(order.size - 1);
      order.size -= cut;
      this.touch(order.side, order.px);
      this.row("C", order, cut, "reduced", order.size + cut, order.size, ts);
    } else {
      this.remove(order);
      this.row("C", order, order.size, "removed", order.size, 0, ts);
    }
  }

  stepModify(ts) {
    const order = this.choose();
    if (!order) return;
    const before = order.size;
    if (this.rng.next() < 0.5 && order.size > 1) {
      order.size -= 1;
      this.touch(order.side, order.px);
      this.row("M", order, order.size, "reduced", before, order.size, ts);
      return;
    }
    this.dequeue(order);
    const shift = this.rng.int(3) - 1;
    const px = order.px + shift;
    const bid = this.best("B");
    const ask = this.best("A");
    if (order.side === "B" ? ask === null || px < ask : bid === null || px > bid) order.px = px;
    order.size += this.lot;
    order.ts = ts;
    this.enqueue(order);
    this.row("M", order, order.size, "moved", before, order.size, ts);
  }

  stepTrade(ts, trades) {
    const aggressor = this.rng.next() < 0.5 + this.trend ? "B" : "A";
    const passive = aggressor === "B" ? "A" : "B";
    let left = this.lot * (1 + this.rng.geometric(this.rng.next() < 0.1 ? 0.04 : 0.3));
    while (left > 0) {
      const px = this.best(passive);
      if (px === null || this.levels[passive].size < 4) break;
      const level = this.levels[passive].get(px);
      const available = [...level.values()].reduce((sum, o) => sum + o.size, 0);
      const size = Math.min(left, available);
      this.row("T", { id: "0", px, side: aggressor }, size, "none", 0, 0, ts);
      const trade = {
        session: 1, ordinal: this.ordinal, end: 0, publisher_id: this.publisher, price: this.price(px), size,
        side: aggressor, flags: 0, sequence: this.sequence, ts_event: String(ts - 150_000n), ts_recv: String(ts),
      };
      trades.push(trade);
      this.last = trade;
      let rest = size;
      for (const order of [...level.values()]) {
        if (rest <= 0) break;
        const fill = Math.min(rest, order.size);
        rest -= fill;
        this.row("F", order, fill, "none", 0, 0, ts);
        if (fill === order.size) {
          this.remove(order);
          this.row("C", order, fill, "removed", fill, 0, ts);
        } else {
          order.size -= fill;
          this.touch(order.side, order.px);
          this.row("M", order, order.size, "reduced", order.size + fill, order.size, ts);
        }
      }
      left -= size;
    }
  }

  /** [price, size, count] best first, at most n (0: all). */
  side(side, n = 0) {
    const prices = [...this.levels[side].keys()].sort((a, b) => (side === "B" ? b - a : a - b));
    return (n ? prices.slice(0, n) : prices).map((px) => this.level(side, px));
  }

  level(side, px) {
    const level = this.levels[side].get(px);
    let size = 0;
    if (level) for (const order of level.values()) size += order.size;
    return [this.price(px), size, level?.size ?? 0];
  }

  queues(side) {
    const prices = [...this.levels[side].keys()].sort((a, b) => (side === "B" ? b - a : a - b));
    return prices.map((px) => [
      this.price(px),
      [...this.levels[side].get(px).values()].map((o) => [o.id, o.size, String(o.ts || 1n), this.publisher]),
    ]);
  }

  top(side) {
    const px = this.best(side);
    return px === null ? null : this.level(side, px);
  }
}
