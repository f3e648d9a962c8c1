import assert from "node:assert/strict";
import { test } from "node:test";
import { Book } from "../../../services/gateway/static/js/book.js";
import { Orders } from "../../../services/gateway/static/js/orders.js";

const snapshot = { bids: [["64.77", 3, 2], ["64.76", 5, 5]], asks: [["64.79", 1, 1], ["65.41", 4, 1]], crossed: false, stale: false, auction: null };

test("a delta sets, adds and deletes levels, and both sides stay best first", () => {
  const book = new Book();
  book.snapshot(snapshot, 0);
  book.delta({ bids: [["64.78", 7, 1], ["64.77", 0, 0]], asks: [["65.4", 2, 1], ["64.79", 9, 3]] }, 1);
  assert.deepEqual(book.rows(), { bids: [["64.78", 7, 1], ["64.76", 5, 5]], asks: [["64.79", 9, 3], ["65.4", 2, 1], ["65.41", 4, 1]] });
});

test("a snapshot replaces everything", () => {
  const book = new Book();
  book.snapshot(snapshot, 0);
  book.snapshot({ ...snapshot, bids: [], asks: [["1", 1, 1]] }, 1);
  assert.deepEqual(book.rows(), { bids: [], asks: [["1", 1, 1]] });
});

test("order of prices is numeric, not textual, over the sign and beyond floats", () => {
  const book = new Book();
  book.snapshot({ ...snapshot, bids: [], asks: [] }, 0);
  const bids = ["9", "10", "-1", "0.000000001", "9007199254.740992002", "9007199254.740992001"].map((p) => [p, 1, 1]);
  book.delta({ bids, asks: bids }, 1);
  const order = ["9007199254.740992002", "9007199254.740992001", "10", "9", "0.000000001", "-1"];
  assert.deepEqual(book.rows().bids.map((l) => l[0]), order);
  assert.deepEqual(book.rows().asks.map((l) => l[0]), [...order].reverse());
});

test("random deltas end in the same book as a plain map", () => {
  const book = new Book();
  book.snapshot({ ...snapshot, bids: [], asks: [] }, 0);
  const plain = new Map();
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let k = 0; k < 4000; k++) {
    const price = `${random(90)}.${1 + random(9)}`;
    const size = random(3) ? 1 + random(50) : 0;
    if (size) plain.set(price, [price, size, 1]);
    else plain.delete(price);
    book.delta({ bids: [[price, size, size ? 1 : 0]], asks: [] }, k);
  }
  assert.deepEqual(book.rows().bids, [...plain.values()].sort((a, b) => Number(b[0]) - Number(a[0])));
});

test("members of a delta that are absent keep their value", () => {
  const book = new Book();
  book.snapshot({ ...snapshot, auction: { price: "65", size: 3 } }, 0);
  book.delta({ bids: [], asks: [] }, 1);
  assert.deepEqual(book.auction, { price: "65", size: 3 });
  book.delta({ bids: [], asks: [], auction: null, stale: true }, 2);
  assert.equal(book.auction, null);
  assert.equal(book.stale, true);
});

const row = (effect, { id = "1", side = "B", price = "10", after = 0, flags = 128, publisher = 1 }) =>
  [1, "A", side, price, 1, id, flags, "1000000", "1000000", 1, publisher, effect, 0, after, null];

function orders(...rows) {
  const book = new Orders();
  book.snapshot({ bids: [["10", [["1", 2, "1", 1], ["2", 3, "1", 1], ["3", 4, "1", 1]]]], asks: [] });
  for (const r of rows) book.apply(r);
  return book;
}
const queue = (book, side = "B", price = "10") => book.queue(side, price).map((o) => [o.id, o.size]);

test("added goes to the back, reduced keeps its place, moved loses it, removed leaves", () => {
  assert.deepEqual(queue(orders(row("added", { id: "4", after: 9 }))), [["1", 2], ["2", 3], ["3", 4], ["4", 9]]);
  assert.deepEqual(queue(orders(row("reduced", { id: "2", after: 1 }))), [["1", 2], ["2", 1], ["3", 4]]);
  assert.deepEqual(queue(orders(row("moved", { id: "1", after: 5 }))), [["2", 3], ["3", 4], ["1", 5]]);
  assert.deepEqual(queue(orders(row("removed", { id: "2" }))), [["1", 2], ["3", 4]]);
});

test("an order is (publisher, id): another venue's same id is another order, and clearing one venue leaves the other", () => {
  const book = orders(row("added", { id: "1", after: 8, publisher: 2 }));
  assert.deepEqual(queue(book), [["1", 2], ["2", 3], ["3", 4], ["1", 8]]);
  book.apply(row("cleared", { publisher: 1 }));
  assert.deepEqual(queue(book), [["1", 8]]);
});

test("a top-of-book record empties that side of its publisher first", () => {
  assert.deepEqual(queue(orders(row("replaced", { id: "9", after: 6, flags: 64 }))), [["9", 6]]);
});

test("an effect of none changes nothing", () => {
  const book = orders();
  const before = book.version;
  book.apply(row("none", { id: "2" }));
  assert.equal(book.version, before);
});

test("the place of an order is what is ahead of it in its level", () => {
  const place = orders().place("3");
  assert.deepEqual([place.index, place.ahead, place.count, place.size], [2, 5, 3, 9]);
  assert.equal(orders().place("77"), null);
});

test("an emptied level is gone", () => {
  const book = orders(...["1", "2", "3"].map((id) => row("removed", { id })));
  assert.equal(book.level("B", "10"), undefined);
});
