import assert from "node:assert/strict";
import { test } from "node:test";
import { Grid } from "../../../services/gateway/static/js/grid.js";
import { floorDiv, formatPrice, parsePrice, placesOf } from "../../../services/gateway/static/js/price.js";

test("a price is the same text after parsing and formatting, whatever its size and sign", () => {
  for (const text of ["0", "1", "-1", "64.77", "-37.63", "0.000000001", "-0.000000001", "9223372036.854775807", "9007199.254740993", "100", "0.5"])
    assert.equal(formatPrice(parsePrice(text)), text);
});

test("prices that a float cannot tell apart stay apart", () => {
  assert.equal(Number("9007199254.740992001"), Number("9007199254.740992002"));
  assert.equal(parsePrice("9007199254.740992002") - parsePrice("9007199254.740992001"), 1n);
});

test("more than nine places is refused", () => assert.throws(() => parsePrice("1.0000000001"), SyntaxError));

test("a price is padded to the tick's places, never cut", () => {
  assert.equal(formatPrice(parsePrice("64.8"), 2), "64.80");
  assert.equal(formatPrice(parsePrice("64.815"), 2), "64.815");
  assert.equal(placesOf(parsePrice("0.015625")), 6);
  assert.equal(placesOf(parsePrice("25")), 0);
});

test("division rounds towards minus infinity", () => {
  assert.equal(floorDiv(-7n, 2n), -4n);
  assert.equal(floorDiv(-8n, 2n), -4n);
  assert.equal(floorDiv(7n, 2n), 3n);
});

test("rows and prices are inverse, also where ticks exceed a float", () => {
  for (const [tick, price] of [["0.01", "64.77"], ["0.000000001", "9007199.254740993"], ["0.25", "-37.75"], ["0.015625", "112.796875"]]) {
    const grid = new Grid(parsePrice(tick));
    grid.fit([parsePrice(price)]);
    for (const ticks of [-3n, 0n, 5n]) {
      const px = parsePrice(price) + ticks * grid.tick;
      assert.equal(grid.price(grid.row(px)), px);
    }
  }
});

test("a price off the grid makes the tick finer, and says that rows are void", () => {
  const grid = new Grid(parsePrice("0.25"));
  assert.equal(grid.fit([parsePrice("100.25")]), true);
  assert.equal(grid.fit([parsePrice("100.5")]), false);
  assert.equal(grid.fit([parsePrice("100.1")]), true);
  assert.equal(formatPrice(grid.tick), "0.05");
  assert.ok(grid.holds(parsePrice("100.25")));
});

test("without a tick the grid is found from the prices", () => {
  const grid = new Grid();
  grid.fit(["64.77", "64.79", "65.4"].map(parsePrice));
  assert.equal(formatPrice(grid.tick), "0.01");
});

test("groups of rows are round prices", () => {
  const grid = new Grid(parsePrice("0.01"));
  grid.fit([parsePrice("64.77")]);
  assert.equal(grid.text(Math.floor(grid.row(parsePrice("64.77")) / 25) * 25), "64.75");
});
