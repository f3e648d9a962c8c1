import assert from "node:assert/strict";
import { test } from "node:test";
import { Badges } from "../../../services/gateway/static/js/badges.js";
import { Columns, ColumnRing } from "../../../services/gateway/static/js/columns.js";
import { Book } from "../../../services/gateway/static/js/book.js";
import { rowStep, timeTicks } from "../../../services/gateway/static/js/axes.js";
import { Latency } from "../../../services/gateway/static/js/latency.js";
import { autoGroup } from "../../../services/gateway/static/js/ladder_rows.js";
import { compact } from "../../../services/gateway/static/js/format.js";
import { HeatView } from "../../../services/gateway/static/js/heat_view.js";
import { decode, encode } from "../../../services/gateway/static/js/link.js";
import { Instrument } from "../../../services/gateway/static/js/instrument.js";
import { prepend } from "../../../services/gateway/static/js/prefill.js";
import { State, defaults } from "../../../services/gateway/static/js/state.js";
import { bubbles } from "../../../services/gateway/static/js/bubbles.js";
import { PipelineEvents } from "../../../services/gateway/static/js/pipeline_events.js";
import { Trades } from "../../../services/gateway/static/js/trades.js";

const book = (bid, ask) => {
  const b = new Book();
  b.snapshot({ bids: [[String(bid), 4, 1]], asks: [[String(ask), 6, 1]], crossed: false, stale: false, auction: null }, 0);
  for (const level of [...b.bids.levels, ...b.asks.levels]) level.row = Number(level.text);
  return b;
};

test("a column holds the state at its end and lasts until the next one", () => {
  const columns = new Columns();
  columns.before(1000, book(10, 11));
  columns.before(1050, book(10, 11));
  columns.before(1120, book(20, 21));
  columns.before(1900, book(30, 31));
  const ring = columns.rings[0];
  assert.deepEqual([...Array(ring.length).keys()].map((k) => [ring.t[ring.slot(k)], ring.bid[ring.slot(k)]]), [[1000, 20], [1100, 30]]);
  assert.equal(ring.find(1899), 1);
  assert.equal(ring.find(999), -1);
});

test("a ring keeps the newest columns and its size", () => {
  const ring = new ColumnRing(100, 5);
  for (let k = 0; k < 12; k++) ring.write(k * 100, book(k, k + 1));
  assert.equal(ring.length, 5);
  assert.equal(ring.first, 700);
  assert.equal(ring.last, 1100);
});

test("a later ring goes behind an earlier one", () => {
  const [a, b] = [new ColumnRing(100, 50), new ColumnRing(100, 50)];
  for (let k = 0; k < 3; k++) a.write(k * 100, book(k, k + 1));
  for (let k = 2; k < 6; k++) b.write(k * 100, book(k + 50, k + 51));
  a.append(b);
  assert.deepEqual([...Array(a.length).keys()].map((k) => a.bid[a.slot(k)]), [0, 1, 52, 53, 54, 55]);
});

test("a gap is an empty column, and time going back starts over", () => {
  const columns = new Columns();
  columns.before(1000, book(1, 2));
  columns.before(1200, book(1, 2));
  columns.gap(1300);
  assert.ok(Number.isNaN(columns.rings[0].bid[columns.rings[0].slot(1)]));
  columns.before(100_000, book(1, 2));
  columns.before(50_000, book(1, 2));
  assert.equal(columns.rings[0].length, 0);
});

test("trades seen before are dropped by (end, ordinal) of their session", () => {
  const trades = new Trades();
  assert.equal(trades.isNew({ session: 1, end: 5, ordinal: 4 }), true);
  assert.equal(trades.isNew({ session: 1, end: 5, ordinal: 4 }), false);
  assert.equal(trades.isNew({ session: 1, end: 4, ordinal: 9 }), false);
  assert.equal(trades.isNew({ session: 1, end: 5, ordinal: 5 }), true);
  assert.equal(trades.isNew({ session: 2, end: 1, ordinal: 1 }), true);
});

test("trades of a symbol's next id count, wherever its shard stands", () => {
  const i = new Instrument("X");
  const hello = (instrument_id) => i.onHello({ dataset: "D", symbol: "X", session: 1, channel: "trades", instrument_id });
  const trade = (ordinal) => i.onTrade({ session: 1, end: ordinal, ordinal, price: "10", size: 1, side: "B", publisher_id: 1, ts_recv: "1000000" });
  hello(7);
  trade(900);
  hello(7);
  trade(900);
  hello(8);
  trade(12);
  assert.equal(i.trades.volume, 2);
});

test("that a feed has ended is said of its own instruments only", () => {
  const live = { connection: { phase: "open" }, feeds: new Map([["one", { feed: "one", state: "ended" }], ["two", { feed: "two", state: "live" }]]), slowAt: -Infinity };
  const said = (feed) => Badges.prototype.live.call({ app: { live } }, { feed, book: {}, arrivedAt: 1 }, 60_000)[0];
  assert.deepEqual(["one", "two"].map(said), ["ENDED", "LIVE · QUIET"]);
});

test("percentiles are of the last ten seconds", () => {
  const latency = new Latency();
  latency.add(["0", 1, 2, 900_000], 0);
  for (let k = 1; k <= 100; k++) latency.add(["0", k, k, k * 1000], 20_000);
  const read = latency.read(20_001);
  assert.equal(read.n, 100);
  assert.equal(read.gateway.p50, 51);
  assert.equal(read.gateway.p99, 100);
  assert.equal(latency.read(40_000), null);
});

test("ticks a row are chosen so that ten levels a side fit", () => {
  const b = new Book();
  const rows = (sign) => Array.from({ length: 20 }, (_, k) => [String(1000 + sign * (k + 1) * 50), 1, 1]);
  b.snapshot({ bids: rows(-1), asks: rows(1), crossed: false, stale: false, auction: null }, 0);
  for (const level of [...b.bids.levels, ...b.asks.levels]) level.row = Number(level.text);
  assert.equal(autoGroup(b, 40, [1, 2, 5, 10, 25, 50, 100], 1), 50);
  assert.equal(autoGroup(b, 2000, [1, 2, 5, 10, 25, 50, 100], 50), 1);
});

test("a link gives back the view it was made from", () => {
  const values = { ...structuredClone(defaults), tabs: [{ spec: "XNAS.ITCH:AAPL", publisher: 2 }, { spec: "CLX5", publisher: null }], active: 1, layout: "ladders", mode: "replay",
    replay: { t: "1758751199000000001", session: 3, speed: "max", playing: false } };
  const back = decode(encode(values), defaults.replay);
  for (const key of ["tabs", "active", "layout", "mode"]) assert.deepEqual(back[key], values[key]);
  assert.deepEqual([back.replay.t, back.replay.session, back.replay.speed], ["1758751199000000001", 3, "max"]);
});

test("a link to instruments opens the book, whatever was shown before", () => {
  assert.equal(decode("#symbols=A", defaults.replay).view, "book");
  assert.equal(decode("#symbols=A&view=pipeline", defaults.replay).view, "pipeline");
});

test("nonsense in a link is left out", () => {
  assert.deepEqual(decode("#mode=replay&t=soon&symbols=&active=7", defaults.replay), {});
  assert.equal(decode("#symbols=A&active=7&layout=x", defaults.replay).layout, "focus");
});

test("state is kept, and a damaged store is the same as none", () => {
  const store = new Map();
  const storage = { getItem: (k) => store.get(k) ?? null, setItem: (k, v) => store.set(k, v), removeItem: (k) => store.delete(k) };
  const state = new State(storage);
  state.set({ layout: "charts", tracked: "77" });
  const again = new State(storage);
  assert.equal(again.get("layout"), "charts");
  assert.equal(again.get("tracked"), null);
  store.set([...store.keys()][0], "{broken");
  assert.equal(new State(storage).get("layout"), "focus");
});

test("a browser that forbids its store has a page all the same", (t) => {
  const forbid = { configurable: true, get() { throw new Error("SecurityError"); } };
  Object.defineProperty(globalThis, "localStorage", forbid);
  t.after(() => delete globalThis.localStorage);
  const state = new State();
  state.set({ layout: "charts" });
  assert.equal(state.get("layout"), "charts");
});

test("opening the same instrument again makes it active; the ninth takes the active one's place", () => {
  const state = new State(null);
  for (const s of "ABCDEFGH") state.open(s);
  state.open("C");
  assert.equal(state.get("active"), 2);
  state.open("I");
  assert.equal(state.get("tabs").length, 8);
  assert.equal(state.get("tabs")[2].spec, "I");
});

test("listeners hear only changes of their keys", () => {
  const state = new State(null);
  let heard = 0;
  const off = state.on("theme", () => heard++);
  state.set({ layout: "charts" });
  state.set({ theme: "auto" });
  state.set({ theme: "dark" });
  off();
  state.set({ theme: "light" });
  assert.equal(heard, 1);
});

test("sizes up to the largest are written in four digits and a unit", () => {
  assert.deepEqual([9999, 99_949, 99_950, 999_499, 999_500, 9_995_000, 999_950_000, 4_294_967_295, -999_500].map(compact),
    ["9999", "99.9k", "100k", "999k", "1.00M", "10.0M", "1.00B", "4.29B", "-1.00M"]);
});

test("a chart that was moved before its book came shows the market when it comes", () => {
  const view = new HeatView();
  view.panPrice(0);
  view.zoomPrice(1.2);
  view.advance(book(100, 102), 1000, false);
  assert.equal(view.center, 101);
  assert.equal(view.rows, 30);
  assert.ok(view.following);
});

test("axis labels are few and round", () => {
  const ticks = timeTicks(0, 120_000, 8);
  assert.ok(ticks.length <= 9 && ticks.length >= 4);
  assert.ok(ticks.every(([t]) => t % 15_000 === 0));
  assert.equal(rowStep(400, 20), 20);
  assert.equal(rowStep(7, 20), 1);
});

test("trades of one aggressor in a bucket are one bubble, whatever part of time is shown", () => {
  const trades = new Trades();
  for (const [ms, row, size, side] of [[100, 10, 1, "B"], [140, 12, 3, "B"], [150, 9, 2, "A"], [260, 9, 5, "A"], [270, 20, 4, "N"]])
    trades.keep({ ms, row, size, side });
  const all = bubbles(trades, 0, 1000, 100);
  assert.deepEqual(all.map((b) => [b.side, b.size, b.row]), [[1, 4, 11.5], [-1, 2, 9], [-1, 5, 9], [0, 4, 20]]);
  assert.equal(all[0].t, 130);
  assert.equal(all.reduce((sum, b) => sum + b.size, 0), 15);
  assert.deepEqual(bubbles(trades, 145, 1000, 100), all); // panned into the bucket: it is still whole
  assert.deepEqual(bubbles(trades, 0, 200, 100), all.slice(0, 2));
});

test("the pipeline's events name who lost which shard and who took it, and nothing at first sight", () => {
  const events = new PipelineEvents();
  const state = (a, b, alive = true) => [[{ feed: "f", shards: [{ shard: 0, owner: a, epoch: 1 }, { shard: 1, owner: b, epoch: 1 }] }], [{ id: "x", name: "one", alive }, { id: "y", name: "two", alive: true }]];
  events.take(...state("one", "one"), 0);
  assert.deepEqual(events.rows, []);
  events.take(...state(null, null, false), 1000);
  events.take(...state("two", "two", false), 3000);
  const said = () => events.rows.map((r) => [r.kind, r.text]);
  assert.deepEqual(said(), [["good", "f #0 #1 taken by two after 2 s"], ["bad", "f #0 #1 lost by one"], ["bad", "one is gone"]]);
  events.take(...state("two", "two", false), 4000);
  assert.equal(said().length, 3);
  events.take(...state("one", "two"), 5000);
  assert.deepEqual(said().slice(0, 2), [["good", "f #0 moved from two to one"], ["info", "one is back"]]);
  for (let k = 0; k < 200; k++) events.take(...state(k % 2 ? "one" : "two", "two"), 6000 + k);
  assert.equal(events.rows.length, 60);
});

test("a past goes before what an instrument has, as often as one likes, and stays as it is", () => {
  const [i, past] = [new Instrument("X"), new Instrument("X")];
  past.grid = i.grid;
  i.onHello({ dataset: "D", symbol: "X", session: 1, channel: "book" });
  past.session = 1;
  const at = (ms) => ({ ts_recv: String(ms * 1e6) });
  const sides = (bid, ask) => ({ bids: [[bid, 1, 1]], asks: [[ask, 1, 1]], crossed: false, stale: false, auction: null });
  const trade = (n, ms, price, side) => ({ ...at(ms), session: 1, end: n, ordinal: n, price, size: n, side, publisher_id: 1 });
  past.onSnapshot({ ...at(1000), ...sides("10", "11") });
  past.onTrade(trade(1, 1100, "10", "A"));
  past.onDelta({ ...at(2000), ...sides("10", "11") });
  i.onSnapshot({ ...at(3000), ...sides("10", "11") });
  i.onTrade(trade(2, 3100, "11", "B"));
  i.onDelta({ ...at(4000), ...sides("10", "12") });
  const [own, before] = [{ columns: i.columns, trades: i.trades }, past.columns.rings[0].length];
  for (let k = 0; k < 2; k++) {
    if (k) Object.assign(i, own, { profile: new Map([[i.grid.row(11_000_000_000n), { buy: 2, sell: 0, none: 0 }]]) });
    prepend(i, past);
    const ring = i.columns.rings[0];
    assert.equal(ring.length, before + own.columns.rings[0].length);
    assert.equal(ring.first, 1000);
    assert.deepEqual(i.trades.tape.map((t) => t.size), [1, 2]);
    assert.deepEqual([i.trades.volume, i.trades.buys, i.trades.sells, i.trades.length, i.trades.last.price], [3, 2, 1, 2, "11"]);
    assert.deepEqual([...i.profile.values()].map((v) => v.buy + v.sell), [2, 1]);
    assert.equal(past.columns.rings[0].length, before);
  }
  assert.equal(i.trades.isNew(trade(2, 3100, "11", "B")), false);
  past.session = 2;
  prepend(i, past);
  assert.equal(i.trades.volume, 3);
});
