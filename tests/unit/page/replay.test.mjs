import assert from "node:assert/strict";
import { test } from "node:test";
import { ReplayQueue } from "../../../services/gateway/static/js/replay_queue.js";
import { after } from "../../../services/gateway/static/js/replay_window.js";
import { parseTime } from "../../../services/gateway/static/js/goto.js";
import { Days } from "../../../services/gateway/static/js/days.js";

test("times a float cannot tell apart are told apart", () => {
  assert.equal(Number("1795347938635269639"), Number("1795347938635269640"));
  assert.ok(after("1795347938635269640", "1795347938635269639"));
  assert.ok(!after("1795347938635269639", "1795347938635269639"));
  assert.ok(after("1795347938635269639", "0"));
});

test("a time is read as people write it, in UTC, on the day shown", () => {
  const day = Date.UTC(2025, 8, 24, 13, 30);
  assert.equal(parseTime("13:45", day), Date.UTC(2025, 8, 24, 13, 45));
  assert.equal(parseTime(" 9:05:30.5 ", day), Date.UTC(2025, 8, 24, 9, 5, 30, 500));
  assert.equal(parseTime("2024-02-29 00:00:01", day), Date.UTC(2024, 1, 29, 0, 0, 1));
  assert.equal(parseTime("1758751199000000000", day), 1758751199000);
  for (const wrong of ["", "25:00", "12:60", "12:00:61", "noon", "2025-13-40 10:00"]) assert.equal(parseTime(wrong, day), null);
});

test("the day that holds a time, of the session asked for, else the newest", () => {
  const days = new Days();
  days.rows = [{ session: 2, first: 100n, last: 200n }, { session: 1, first: 10n, last: 150n }];
  assert.equal(days.holding("120").session, 2);
  assert.equal(days.holding("120", 1).session, 1);
  assert.equal(days.holding("50").session, 1);
  assert.equal(days.holding(null).session, 2);
  days.rows = [];
  assert.equal(days.holding("5"), null);
});

/** A queue of steps at these times (a null is a snapshot between them), and what it has applied. */
function queued(...times) {
  const applied = [];
  const queue = new ReplayQueue((item) => applied.push(item.n));
  let ns = 0;
  for (const [n, t] of times.entries()) queue.items.push({ n, ns: String((ns = t ?? ns)), ms: ns / 1e6, step: t !== null });
  return { queue, applied };
}

test("a step applies all of one time and what no time belongs to, but not while more of it may come", () => {
  const { queue, applied } = queued(null, 5, 5, null, 7, 7);
  assert.equal(queue.step(true).ns, "5");
  assert.deepEqual(applied, [0, 1, 2, 3]);
  assert.equal(queue.step(true), null);
  assert.equal(queue.step(false).ns, "7");
  assert.equal(queue.step(false), null);
  assert.deepEqual(applied, [0, 1, 2, 3, 4, 5]);
});

test("a step back applies anew all before the last time, and the steps on are the same again", () => {
  const { queue, applied } = queued(null, 5, 5, 7, 8);
  while (queue.step(false));
  const back = () => queue.back(() => (applied.length = 0));
  assert.equal(back().item.ns, "7");
  assert.deepEqual(applied, [0, 1, 2, 3]);
  assert.equal(back().item.ns, "5");
  assert.deepEqual(applied, [0, 1, 2]);
  assert.equal(queue.step(false).ns, "7");
  assert.equal(queue.step(false).ns, "8");
  assert.deepEqual(applied, [0, 1, 2, 3, 4]);
});

test("what is kept to step back is bounded; behind it the time to seek to is told", () => {
  const { queue, applied } = queued(...Array.from({ length: 100_000 }, (_, k) => k + 1));
  while (!queue.until(0.099999)); // 99,999 ns, in slices of a frame
  assert.equal(applied.length, 99_999);
  assert.ok(queue.past.length <= 90_000 && queue.items.length <= 20_002);
  assert.deepEqual(queue.back(() => assert.fail()), { before: "99999" });
  assert.equal(queue.until(0, "100000"), true);
  assert.equal(queue.left, 0);
});
