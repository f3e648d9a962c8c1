import assert from "node:assert/strict";
import { test } from "node:test";
import { Columns, ColumnRing } from "../../../services/gateway/static/js/columns.js";
import { Book } from "../../../services/gateway/static/js/book.js";
import { rowStep, timeTicks } from "../../../services/gateway/static/js/axes.js";
import { Latency } from "../../../services/gateway/static/js/latency.js";
import { autoGroup } from "../../../services/gateway/static/js/ladder_rows.js";
import { decode, encode } from "../../../services/gateway/static/js/link.js";
import { State, defaults } from "../../../services/gateway/static/js/state.js";
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

test("axis labels are few and round", () => {
  const ticks = timeTicks(0, 120_000, 8);
  assert.ok(ticks.length <= 9 && ticks.length >= 4);
  assert.ok(ticks.every(([t]) => t % 15_000 === 0));
  assert.equal(rowStep(400, 20), 20);
  assert.equal(rowStep(7, 20), 1);
});
