/** One client's view of one instrument's channel: turns what happened into the events of the protocol. */
const stamps = () => [String(Date.now() * 1e6), 80 + Math.round(Math.random() * 90), 420 + Math.round(Math.random() * 400),
  650 + Math.round(Math.random() * 900 + (Math.random() < 0.02 ? 3000 : 0))];

export class View {
  constructor(channel, instrument, { depth = 10, interval = 0, publisher = null }) {
    Object.assign(this, { channel, instrument, depth: channel === "book" ? depth : 0, interval, publisher });
    this.name = `${channel}:${instrument.feed}:${instrument.id}:${publisher ?? "*"}:${this.depth}:${interval}`;
    this.q = 0;
    this.sent = { B: new Map(), A: new Map() };
    this.bbo = "";
    this.dueAt = 0;
  }

  head() {
    return { view: this.name, symbol: this.instrument.symbol, channel: this.channel };
  }

  describe(resumed) {
    const i = this.instrument;
    return {
      ...this.head(), dataset: i.dataset, feed: i.feed, instrument_id: i.id, publisher_id: this.publisher, shard: i.shard,
      session: i.session, depth: this.depth, interval_ms: this.interval, resumed, q: resumed ? this.q : 0,
    };
  }

  levels(market, side) {
    const rows = market.side(side, this.depth);
    const extra = this.instrument.override?.crossed;
    if (!extra || !rows.length) return rows;
    const other = market.side(side === "B" ? "A" : "B", 3).map(([p]) => [p, 7, 2]);
    return [...other.reverse(), ...rows].slice(0, this.depth || undefined);
  }

  snapshot(market, ts) {
    const i = this.instrument;
    this.q = market.ordinal;
    const base = {
      ...this.head(), dataset: i.dataset, feed: i.feed, instrument_id: i.id, publisher_id: this.publisher,
      session: i.session, q: this.q, ts_event: String(ts), ts_recv: String(ts),
    };
    const state = { crossed: Boolean(i.override?.crossed), stale: Boolean(i.override?.stale), stamps: stamps() };
    if (this.channel === "mbo")
      return ["snapshot", { ...base, bids: market.queues("B"), asks: market.queues("A"), ...state }];
    const bids = this.levels(market, "B");
    const asks = this.levels(market, "A");
    this.sent = { B: new Map(bids.map((l) => [l[0], l])), A: new Map(asks.map((l) => [l[0], l])) };
    this.flags = JSON.stringify([state.crossed, state.stale, i.override?.auction ?? null]);
    return ["snapshot", { ...base, depth: this.depth, bids, asks, crossed: state.crossed, stale: state.stale,
      auction: i.override?.auction ?? null, stamps: state.stamps }];
  }

  first(market, ts) {
    if (this.channel === "book" || this.channel === "mbo") return [this.snapshot(market, ts)];
    if (this.channel === "bbo") return [this.best(market, ts)];
    if (this.channel === "status") return [this.status(market, ts)];
    return [];
  }

  status(market, ts) {
    const o = this.instrument.override ?? {};
    return ["status", { ...this.head(), session: this.instrument.session, q: market.ordinal,
      state: o.state ?? (o.auction ? "auction" : o.stale ? "stale" : "open"), reason: o.reason ?? null, ts: String(ts),
      stale: Boolean(o.stale), auction: o.auction ?? null }];
  }

  best(market, ts) {
    this.q = market.ordinal;
    const bid = market.top("B");
    const ask = market.top("A");
    this.bbo = JSON.stringify([bid, ask]);
    return ["bbo", { ...this.head(), publisher_id: this.publisher, q: this.q, ordinal: this.q, ts_event: String(ts),
      ts_recv: String(ts), bid, ask, crossed: Boolean(this.instrument.override?.crossed),
      stale: Boolean(this.instrument.override?.stale), stamps: stamps() }];
  }

  /** Events for one market event. */
  on(market, event) {
    if (this.channel === "trades")
      return event.trades.map((t) => ["trade", { ...this.head(), ...t, session: this.instrument.session, stamps: stamps() }]);
    if (this.channel === "mbo") {
      const p = this.q;
      this.q = market.ordinal;
      return [["mbo", { ...this.head(), session: this.instrument.session, p, q: this.q, n: event.rows.length,
        rows: event.rows, stamps: stamps() }]];
    }
    if (this.interval) return [];
    return this.change(market, event.ts, event.touched);
  }

  /** The levels an event touched that differ from what was sent: all there is to compare when no level is cut off. */
  touchedLevels(market, touched) {
    const out = { B: [], A: [] };
    for (const key of touched) {
      const side = key[0];
      const l = market.level(side, Number(key.slice(1)));
      const old = this.sent[side].get(l[0]);
      if (old ? old[1] === l[1] && old[2] === l[2] : !l[1]) continue;
      if (l[1]) this.sent[side].set(l[0], l);
      else this.sent[side].delete(l[0]);
      out[side].push(l);
    }
    return out;
  }

  /** Events for what changed since the last call (book, bbo). */
  change(market, ts, touched = null) {
    if (this.channel === "bbo") {
      const now = JSON.stringify([market.top("B"), market.top("A")]);
      return now === this.bbo ? [] : [this.best(market, ts)];
    }
    if (this.channel !== "book") return [];
    const flags = JSON.stringify([Boolean(this.instrument.override?.crossed), Boolean(this.instrument.override?.stale),
      this.instrument.override?.auction ?? null]);
    const cheap = touched && !this.instrument.override && (this.depth === 0 || this.depth >= 60);
    const out = cheap ? this.touchedLevels(market, touched) : { B: [], A: [] };
    for (const side of cheap ? [] : ["B", "A"]) {
      const now = new Map(this.levels(market, side).map((l) => [l[0], l]));
      for (const [px, l] of now) {
        const old = this.sent[side].get(px);
        if (!old || old[1] !== l[1] || old[2] !== l[2]) out[side].push(l);
      }
      for (const px of this.sent[side].keys()) if (!now.has(px)) out[side].push([px, 0, 0]);
      this.sent[side] = now;
    }
    if (!out.B.length && !out.A.length && flags === this.flags) return [];
    const p = this.q;
    this.q = market.ordinal;
    const delta = { ...this.head(), p, q: this.q, ts_event: String(ts), ts_recv: String(ts), bids: out.B, asks: out.A };
    if (flags !== this.flags) {
      const [crossed, stale, auction] = JSON.parse(flags);
      Object.assign(delta, { crossed, stale, auction });
      this.flags = flags;
    }
    return [["delta", { ...delta, stamps: stamps() }]];
  }
}
