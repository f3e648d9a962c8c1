import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { compareAtCommonPosition, eventually, hasBook, launch, open, symbolOf } from "./harness.mjs";

let stage;
before(async () => (stage = await launch()));
after(() => stage.close());

test("the ladder's book equals /v1/book at a common position, five times over", async () => {
  const symbol = await symbolOf(stage);
  const page = await open(stage, `#symbols=${symbol}`);
  await hasBook(page);
  for (let k = 0; k < 5; k++) {
    const { page: shown, rest } = await page.evaluate(compareAtCommonPosition, symbol);
    assert.equal(shown, rest);
  }
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("the table for screen readers shows the best levels of the book", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  const matched = await eventually(page, () => {
    const { book } = window.mbostream.instrument;
    const cells = [...document.querySelectorAll(".ladder table.sr tbody tr:first-child td")].map((td) => td.textContent);
    return cells.length === 6 && cells[0] === book.bid.text && cells[3] === book.ask.text && cells;
  });
  assert.equal(matched.length, 6);
  await page.close();
});

test("orders in queue order add up to the levels they stand in", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  const wrong = await eventually(page, () => {
    const i = window.mbostream.instrument;
    if (!i.orders.ready || i.book.auction || i.book.crossed) return null;
    const sums = [i.book.bids, i.book.asks].flatMap((side, k) => side.levels.slice(0, 10).map((l) => {
      const queue = i.orders.queue(k ? "A" : "B", l.text);
      return [l.text, l.size, l.count, queue.reduce((s, o) => s + o.size, 0), queue.length];
    }));
    return { wrong: sums.filter(([, size, count, sum, n]) => size !== sum || count !== n), n: sums.length };
  });
  assert.ok(wrong.n >= 2);
  assert.deepEqual(wrong.wrong, []);
  await page.close();
});

test("a level's queue opens, and an order in it is followed with its place", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  await eventually(page, () => window.mbostream.instrument.orders.ready);
  await page.evaluate(() => {
    const i = window.mbostream.instrument;
    const level = i.book.bids.levels[Math.min(4, i.book.bids.levels.length - 1)];
    window.mbostream.state.set({ level: { spec: window.mbostream.state.activeTab.spec, side: "B", row: level.row, group: 1 } });
  });
  await page.waitForSelector(".queue-box tbody tr");
  await page.click(".queue-box tbody tr:last-child");
  await eventually(page, () => /\d+ of \d+ · \d+ ahead|gone from the book/.test(document.querySelector(".found").textContent));
  await page.close();
});

test("rows scroll by key and wheel, and C brings the market back", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  const canvas = page.locator(".area-ladder canvas");
  await canvas.focus();
  const ladder = () => page.evaluate(() => {
    const l = window.mbostream.stage.panels.find((p) => p.recentre);
    return { follow: l.follow, center: l.center };
  });
  await page.keyboard.press("PageUp");
  await page.keyboard.press("PageUp");
  assert.equal((await ladder()).follow, false);
  await canvas.hover();
  const before = (await ladder()).center;
  await page.mouse.wheel(0, 400);
  assert.ok((await ladder()).center < before);
  await page.keyboard.press("c");
  assert.equal((await ladder()).follow, true);
  await page.close();
});

/** In the page: notes every flash of a ladder's wing as it is painted. */
function noteFlashes() {
  const ladder = window.mbostream.stage.panels.find((p) => p.recentre);
  window.flashes = [];
  const { drawWing } = ladder;
  ladder.drawWing = function (c, i, at, side, edge, wing, ...rest) {
    const { fillRect } = c;
    let first = true;
    c.fillRect = function (...box) {
      if (first && c.globalAlpha < 1 && box[2] === wing) {
        const [changedAt, change] = side === "B" ? [at.bidAt, at.bidChange] : [at.askAt, at.askChange];
        window.flashes.push({ side, age: rest.at(-1) - changedAt, change, alpha: c.globalAlpha, color: c.fillStyle });
      }
      first = false;
      return fillRect.apply(this, box);
    };
    drawWing.call(this, c, i, at, side, edge, wing, ...rest);
    delete c.fillRect;
  };
}

test("a level flashes when its size changes, more for what came than for what went, and fades", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  await page.evaluate(noteFlashes);
  const flashes = await eventually(page, () => window.flashes.some((f) => f.change > 0) && window.flashes.some((f) => f.change < 0) && window.flashes.length > 40 && window.flashes);
  for (const { age, change, alpha } of flashes) {
    assert.ok(age >= 0 && age < 450, `${age} ms after the change`);
    assert.ok(Math.abs(alpha - (1 - age / 450) * (change > 0 ? 0.24 : 0.07)) < 1e-6);
  }
  const bids = new Set(flashes.filter((f) => f.side === "B" && f.change > 0).map((f) => f.color));
  const asks = new Set(flashes.filter((f) => f.side === "A" && f.change > 0).map((f) => f.color));
  assert.ok(bids.size <= 1 && asks.size <= 1 && (!bids.size || !asks.size || [...bids][0] !== [...asks][0]), "a colour a side");
  await page.close();
});

test("with reduced motion nothing flashes", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`, { reducedMotion: "reduce" });
  await hasBook(page);
  await page.evaluate(noteFlashes);
  const from = await page.evaluate(() => window.mbostream.instrument.book.version);
  await eventually(page, (v) => window.mbostream.instrument.book.version > v + 50, from);
  assert.deepEqual(await page.evaluate(() => window.flashes), []);
  await page.close();
});

test("the last price of the header is the one marked in the ladder and the tape's newest, in every frame", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  const differing = await page.evaluate(() => new Promise((done) => {
    const { instrument, stage: { panels } } = window.mbostream;
    const drawn = {};
    const watch = (panel, name) => {
      const { draw } = panel;
      panel.draw = (...args) => {
        draw.apply(panel, args);
        drawn[name] = instrument.grid.text(instrument.trades.last.row);
      };
    };
    watch(panels.find((p) => p.recentre), "ladder");
    watch(panels.find((p) => p.emptyText === "no trades yet"), "tape");
    const found = [];
    let frames = 0;
    const best = instrument.book.bid.text;
    const look = () => {
      frames++;
      const header = document.querySelector(".last").textContent.replace(/^[▲▼]? /, "");
      if (frames > 20) for (const [name, text] of Object.entries(drawn)) if (text !== header) found.push(`${frames}: header ${header}, ${name} ${text}`);
      instrument.onTrade({ session: 1e6, end: frames, ordinal: frames, price: instrument.grid.text(instrument.grid.row(instrument.book.bids.byPrice.get(best)?.px ?? instrument.book.bid.px) + (frames % 9)),
        size: 1, side: "B", publisher_id: 1, ts_recv: String(BigInt(Math.round(instrument.ms)) * 1_000_000n) });
      if (frames < 150) requestAnimationFrame(look);
      else done(found);
    };
    requestAnimationFrame(look);
  }));
  assert.deepEqual(differing, []);
  await page.close();
});

test("Escape closes the queue of a level from the ladder too", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  await page.evaluate(() => {
    const { state, instrument } = window.mbostream;
    state.set({ level: { spec: state.activeTab.spec, side: "B", row: instrument.book.bid.row, group: 1 } });
  });
  await page.waitForSelector(".queue-box:not([hidden])");
  await page.focus(".ladder canvas");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".queue-box", { state: "hidden" });
  await page.close();
});

test("a drag that the system takes away ends", async () => {
  const page = await open(stage, `#symbols=${await symbolOf(stage)}`);
  await hasBook(page);
  const box = await page.locator(".ladder canvas").boundingBox();
  await page.mouse.move(box.x + 50, box.y + 100);
  await page.mouse.down();
  await page.dispatchEvent(".ladder canvas", "pointercancel");
  await page.mouse.move(box.x + 50, box.y + 300);
  assert.ok(await page.evaluate(() => window.mbostream.stage.panels.find((p) => p.recentre).follow));
  await page.close();
});
