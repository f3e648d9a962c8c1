import { Book } from "./book.js";
import { Columns } from "./columns.js";
import { Grid } from "./grid.js";
import { Latency } from "./latency.js";
import { Orders } from "./orders.js";
import { parsePrice, toNumber } from "./price.js";
import { Trades } from "./trades.js";

/**
 * Everything the page knows of one instrument. Views (views.js) call the `on…` members with events that count; panels read
 * the members and compare `version`s to know whether to draw. Times are ms of market time (ts_recv) unless said otherwise.
 */
const FLOW = 600;

export class Instrument {
  constructor(spec) {
    this.spec = spec;
    this.symbol = spec.includes(":") ? spec.slice(spec.indexOf(":") + 1) : spec;
    this.dataset = null;
    this.meta = null;
    this.grid = new Grid();
    this.book = new Book();
    this.orders = new Orders();
    this.trades = new Trades();
    this.began = {}; // channel -> ordinal behind which its events follow
    this.columns = new Columns();
    this.latency = new Latency();
    this.profile = new Map();
    this.flow = [];
    this.flowVersion = 0;
    this.status = null;
    this.bbo = null;
    this.minute = null;
    this.session = null;
    this.feed = null;
    this.id = null;
    this.ms = 0;
    this.arrivedAt = 0;
    this.events = 0;
    this.sawAt = null;
  }

  /** Facts of /v1/instruments. */
  setMeta(meta) {
    this.meta = meta;
    this.symbol = meta.symbol;
    this.dataset = meta.dataset;
    if (this.grid.tick === null && meta.tick_size) this.grid.tick = parsePrice(meta.tick_size);
  }

  onHello(v) {
    this.dataset = v.dataset;
    this.symbol = v.symbol;
    if (this.session !== null && this.session !== v.session) this.reset();
    this.session = v.session;
    this.feed = v.feed;
    if (this.id !== v.instrument_id) this.trades.mark = null; // another shard's ordinals, perhaps
    this.id = v.instrument_id;
    this.began[v.channel] = v.q;
    if (v.channel === "mbo") this.orders.clear();
  }

  /** Drop what belongs to another session or another time; the grid stays. */
  reset() {
    this.book.clear();
    this.orders.clear();
    this.trades.clear();
    this.columns.clear();
    this.profile.clear();
    this.flow.length = 0;
    this.flowVersion++;
    this.status = null;
    this.bbo = null;
    this.ms = 0;
  }

  /** The stream broke: nothing is known between here and the next snapshot. */
  broke() {
    if (this.ms) this.columns.gap(this.ms);
  }

  arrived(e) {
    this.ms = Math.max(this.ms, Number(e.ts_recv) / 1e6);
    this.arrivedAt = performance.now();
    this.events++;
    if (e.stamps) this.latency.add(e.stamps, this.arrivedAt);
  }

  fit(prices) {
    if (!this.grid.fit(prices)) return false;
    for (const side of [this.book.bids, this.book.asks]) for (const level of side.levels) level.row = this.grid.row(level.px);
    this.columns.clear();
    this.profile.clear();
    this.trades.length = 0;
    for (const trade of this.trades.tape) {
      if (trade.px === null) continue;
      trade.row = this.grid.row(trade.px);
      this.trades.keep(trade);
      this.traded(trade);
    }
    return true;
  }

  place(level) {
    if (!this.grid.holds(level.px)) this.fit([level.px]);
    level.row = this.grid.row(level.px);
  }

  onSnapshot(e) {
    const ms = Number(e.ts_recv) / 1e6;
    if (this.book.version) this.columns.before(ms, this.book);
    this.book.snapshot(e, performance.now());
    const levels = [...this.book.bids.levels, ...this.book.asks.levels];
    this.fit(levels.map((l) => l.px));
    for (const level of levels) level.row = this.grid.row(level.px);
    this.columns.before(ms, this.book);
    this.arrived(e);
  }

  onDelta(e) {
    this.columns.before(Number(e.ts_recv) / 1e6, this.book);
    this.book.delta(e, performance.now(), (side, level) => this.place(level));
    this.arrived(e);
  }

  onOrders(e) {
    this.orders.snapshot(e);
    this.flowVersion++;
  }

  onMbo(e) {
    for (const row of e.rows) {
      this.orders.apply(row);
      this.flow.push(row);
    }
    if (this.flow.length > FLOW * 2) this.flow.splice(0, this.flow.length - FLOW);
    this.flowVersion++;
    this.arrivedAt = performance.now();
  }

  onTrade(e) {
    if (!this.trades.isNew(e)) return;
    const px = e.price === null ? null : parsePrice(e.price);
    if (px !== null && !this.grid.holds(px)) this.fit([px]);
    const trade = { price: e.price, px, row: px === null ? 0 : this.grid.row(px), size: e.size, side: e.side, ms: Number(e.ts_recv) / 1e6,
      ts: e.ts_recv, publisher: e.publisher_id, at: performance.now() };
    this.trades.add(trade);
    if (px !== null) this.traded(trade);
    this.arrived(e);
  }

  traded(trade) {
    let at = this.profile.get(trade.row);
    if (!at) this.profile.set(trade.row, (at = { buy: 0, sell: 0, none: 0 }));
    at[trade.side === "B" ? "buy" : trade.side === "A" ? "sell" : "none"] += trade.size;
  }

  onBbo(e) {
    this.bbo = e;
    this.arrived(e);
  }

  onStatus(e) {
    this.status = e;
    this.book.stale = e.stale;
    this.book.auction = e.auction;
    this.book.version++;
  }

  onBar(e) {
    if (e.period === "1m") this.minute = e;
  }

  /** Best prices and what follows from them; floats, for reading only. */
  figures() {
    const bid = this.book.bid ?? this.quote("bid");
    const ask = this.book.ask ?? this.quote("ask");
    if (!bid || !ask) return { bid, ask, spread: null, mid: null, micro: null, imbalance: null };
    const b = toNumber(bid.px);
    const a = toNumber(ask.px);
    let bids = 0;
    let asks = 0;
    for (let i = 0; i < 5; i++) {
      bids += this.book.bids.levels[i]?.size ?? (i ? 0 : bid.size);
      asks += this.book.asks.levels[i]?.size ?? (i ? 0 : ask.size);
    }
    return {
      bid, ask, spread: ask.px - bid.px, mid: (bid.px + ask.px) / 2n, micro: (b * ask.size + a * bid.size) / (bid.size + ask.size),
      imbalance: (bids - asks) / (bids + asks || 1),
    };
  }

  quote(side) {
    const best = this.bbo?.[side];
    return best ? { px: parsePrice(best[0]), text: best[0], size: best[1], count: best[2] } : null;
  }
}
