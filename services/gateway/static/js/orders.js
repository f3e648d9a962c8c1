import { parsePrice } from "./price.js";

/**
 * The orders of one book in queue order (L3), from the `mbo` channel: a snapshot, then every record with its effect
 * (services/gateway/README.md, "Orders"). An order is (publisher_id, order_id); a level is a Map in queue order, so that
 * "append" is delete + set and "reduced" keeps its place.
 */
const FLAG_MBP = 16;
const FLAG_TOB = 64;

export class Orders {
  constructor() {
    this.byKey = new Map();
    this.bids = new Map();
    this.asks = new Map();
    this.version = 0;
    this.ready = false;
  }

  clear() {
    this.byKey.clear();
    this.bids.clear();
    this.asks.clear();
    this.ready = false;
    this.version++;
  }

  snapshot(e) {
    this.clear();
    for (const [side, levels] of [["B", e.bids], ["A", e.asks]])
      for (const [price, orders] of levels)
        for (const [id, size, ts, publisher] of orders) this.append(side, price, id, size, ts, publisher);
    this.ready = true;
  }

  level(side, price) {
    return (side === "B" ? this.bids : this.asks).get(price);
  }

  append(side, price, id, size, ts, publisher) {
    const key = `${publisher}:${id}`;
    this.take(key);
    const levels = side === "B" ? this.bids : this.asks;
    let level = levels.get(price);
    if (!level) levels.set(price, (level = new Map()));
    const order = { key, id, side, price, px: parsePrice(price), size, ms: Number(ts) / 1e6, publisher };
    level.set(key, order);
    this.byKey.set(key, order);
    return order;
  }

  take(key) {
    const order = this.byKey.get(key);
    if (!order) return;
    this.byKey.delete(key);
    const levels = order.side === "B" ? this.bids : this.asks;
    const level = levels.get(order.price);
    level?.delete(key);
    if (level && !level.size) levels.delete(order.price);
  }

  empty(publisher, side = null) {
    for (const order of [...this.byKey.values()])
      if (order.publisher === publisher && (side === null || order.side === side)) this.take(order.key);
  }

  /** One mbo_row. */
  apply(row) {
    const [, , side, price, , id, flags, ts, , , publisher, effect, , after] = row;
    const key = `${publisher}:${id}`;
    switch (effect) {
      case "added":
      case "moved":
        this.append(side, price, id, after, ts, publisher);
        break;
      case "replaced":
        if (flags & FLAG_TOB) this.empty(publisher, side);
        if (flags & FLAG_MBP) for (const k of [...(this.level(side, price)?.keys() ?? [])]) if (k.startsWith(`${publisher}:`)) this.take(k);
        if (price !== null && after > 0) this.append(side, price, id, after, ts, publisher);
        break;
      case "reduced": {
        const order = this.byKey.get(key);
        if (order) order.size = after;
        break;
      }
      case "removed":
        this.take(key);
        break;
      case "cleared":
        this.empty(publisher);
        break;
      default:
        return;
    }
    this.version++;
  }

  /** Orders of a level, front of the queue first. */
  queue(side, price) {
    return [...(this.level(side, price)?.values() ?? [])];
  }

  /** Where the order of that id stands now, or null: {order, index, ahead, count, size}. */
  place(id) {
    for (const order of this.byKey.values()) {
      if (order.id !== id) continue;
      let index = 0;
      let ahead = 0;
      let size = 0;
      let before = true;
      const level = this.level(order.side, order.price);
      for (const other of level.values()) {
        if (other === order) before = false;
        if (before) {
          index++;
          ahead += other.size;
        }
        size += other.size;
      }
      return { order, index, ahead, count: level.size, size };
    }
    return null;
  }
}
