import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, eventually, fake, hasBook, launch, open } from "./harness.mjs";

/** What a simulated market does not have: venues that share an instrument, thousands of symbols, prices beyond a float. */
let stage;
before(async () => (stage = await launch()));
after(() => stage.close());

test("the market tree opens an instrument of one venue", async () => {
  const page = await open(stage, "#symbols=CLX5");
  await hasBook(page);
  await page.evaluate(() => window.mbostream.state.set({ side: true, sideTab: "markets" }));
  await page.waitForSelector(".tree .branch[aria-expanded=true]:has-text('DBEQ.BASIC')");
  await page.click(".tree .branch:has-text('Publisher 40')");
  await page.click(".tree .leaf:has-text('SPY')");
  await eventually(page, () => window.mbostream.state.activeTab.publisher === 40);
  await hasBook(page);
  await page.close();
});

test("in a replay each venue of an instrument has its book, and one that is closed is forgotten", async () => {
  const { days } = await ask(stage, "days?symbol=SPY");
  const page = await open(stage, `#symbols=SPY@39,SPY@40&mode=replay&t=${(BigInt(days[0].first) + BigInt(days[0].last)) / 2n}`);
  const shown = () => eventually(page, () => !window.mbostream.player.loading && window.mbostream.instrument.book.bid !== null);
  await shown();
  await page.keyboard.press("2");
  await shown();
  await page.evaluate(() => window.mbostream.state.close(0));
  await eventually(page, () => window.mbostream.player.instruments.size === 1);
  await shown();
  await page.close();
});

test("prices no float can hold are shown exactly", async () => {
  const page = await open(stage, "#symbols=HUGE,NANO,CLNEG&layout=ladders");
  for (const [index, pattern] of [[0, /^9007199\.25\d{7}$/], [1, /^0\.0000000\d\d$/], [2, /^-\d\d\.\d{1,2}$/]]) {
    await page.evaluate((k) => window.mbostream.state.set({ active: k }), index);
    await hasBook(page);
    const { shown, exact } = await page.evaluate(() => {
      const { book, grid } = window.mbostream.instrument;
      return { shown: [...book.bids.levels, ...book.asks.levels].map((l) => grid.text(l.row)), exact: [...book.bids.levels, ...book.asks.levels].map((l) => l.text) };
    });
    assert.match(exact[0], pattern);
    assert.equal(new Set(shown).size, exact.length);
    assert.deepEqual(shown.map(Number), exact.map(Number));
  }
  await page.close();
});

test("several instruments are one stream", async () => {
  const before = (await fake(stage, "calm", { symbol: "CLX5" })).connects;
  const page = await open(stage, "#symbols=CLX5,ESZ5,AAPL,ZNZ5&layout=charts");
  await eventually(page, () => window.mbostream.state.get("tabs").every((t) => window.mbostream.live.instrument(t).book.bid));
  assert.equal((await fake(stage, "calm", { symbol: "CLX5" })).connects - before, 1);
  await page.close();
});

test("a thousand book changes a second: the page keeps up and its memory stays bounded", async () => {
  const page = await open(stage, "#symbols=BUSY");
  await hasBook(page);
  const { changes, behind, columns } = await page.evaluate(async () => {
    const i = window.mbostream.instrument;
    const from = [i.book.version, performance.now()];
    while (i.book.version < from[0] + 2000) await new Promise((done) => requestAnimationFrame(done));
    return { changes: ((i.book.version - from[0]) * 1000) / (performance.now() - from[1]), behind: window.mbostream.live.serverNow - i.ms,
      columns: i.columns.rings.map((r) => r.length <= r.capacity && (r.t?.length ?? r.capacity) === r.capacity) };
  });
  assert.ok(changes > 300, `${Math.round(changes)} changes a second reached the book`);
  assert.ok(behind < 2000, `${Math.round(behind)} ms behind the gateway`);
  assert.deepEqual(columns, [true, true, true]);
  await page.close();
});
