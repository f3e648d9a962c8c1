import assert from "node:assert/strict";
import { test } from "node:test";
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
