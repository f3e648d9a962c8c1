import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { REAL, ask, badge, eventually, hasBook, launch, open, symbolOf } from "./harness.mjs";

/** Replay is the same screen. On a real gateway the recorded range is asked for, on the fake it is a made-up day. */
const BUSY = /status of 429/; // the gateway limits how much history one client asks at once; the page waits and asks again
let stage;
let symbol;
let range;
before(async () => {
  stage = await launch();
  symbol = await symbolOf(stage);
  const { days } = await ask(stage, `days?symbol=${symbol}`);
  assert.ok(days.length, "nothing is recorded");
  const { instruments } = await ask(stage, `instruments?search=${symbol}`);
  const row = instruments.find((i) => i.symbol === symbol);
  const first = REAL && row.first ? BigInt(row.first) : BigInt(days[0].first);
  const last = REAL && row.last ? BigInt(row.last) : BigInt(days[0].last);
  range = { first, last, middle: (first + last) / 2n };
});
after(() => stage.close());

async function replay(t = range.middle) {
  const page = await open(stage, `#symbols=${symbol}&mode=replay&t=${t}`, { allow: BUSY });
  await eventually(page, () => !window.mbostream.player.loading && window.mbostream.instrument.book.bid !== null, null, 60_000);
  return page;
}
const levels = (page) => page.evaluate(() => window.mbostream.instrument.book.rows());

test("seeking to an instant shows the book that /v1/book?at= rebuilds", async () => {
  const page = await replay();
  await badge(page, "REPLAY · PAUSED");
  const shown = await levels(page);
  const rest = await ask(stage, `book/${symbol}?depth=400&at=${range.middle}`);
  assert.deepEqual(shown, { bids: rest.bids, asks: rest.asks });
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("a step forward and a step back end in the same book", async () => {
  const page = await replay();
  const stepped = () => eventually(page, () => !window.mbostream.player.owed && !window.mbostream.player.loading, null, 30_000);
  await page.keyboard.press("n");
  await stepped();
  const one = { t: await page.evaluate(() => window.mbostream.player.ns), book: await levels(page) };
  for (let k = 0; k < 5; k++) await page.keyboard.press("n");
  await stepped();
  assert.ok((await page.evaluate(() => BigInt(window.mbostream.player.ns).toString())) > one.t);
  for (let k = 0; k < 5; k++) {
    await page.keyboard.press("Shift+N");
    await stepped();
  }
  assert.equal(await page.evaluate(() => window.mbostream.player.ns), one.t);
  assert.deepEqual(await levels(page), one.book);
  await page.close();
});

test("playing goes by market time, faster when told to, and pauses", async () => {
  const page = await replay(range.first + (range.last - range.first) / 4n);
  const at = () => page.evaluate(() => window.mbostream.player.ms);
  const start = await at();
  await page.keyboard.press(" ");
  await eventually(page, (s) => window.mbostream.player.ms > s + 300, start, 30_000);
  await page.keyboard.press(".");
  assert.equal(await page.evaluate(() => window.mbostream.player.speed), 2);
  await page.keyboard.press(" ");
  await badge(page, "REPLAY · PAUSED");
  const paused = await at();
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  assert.equal(await at(), paused);
  await page.close();
});

/** A replay `ns` before where the page sees the end: of a market that is still recorded, later than `range.last`. */
async function nearEnd(ns) {
  const page = await replay(range.last);
  await eventually(page, () => window.mbostream.player.range !== null);
  await page.evaluate((before) => window.mbostream.player.seek(window.mbostream.player.range.last - BigInt(before)), String(ns));
  await eventually(page, () => !window.mbostream.player.loading, null, 60_000);
  return page;
}

test("at full speed it reaches the end, with the book of that instant", async () => {
  const page = await nearEnd(2_000_000_000n);
  await page.evaluate(() => window.mbostream.player.setSpeed("max"));
  await page.keyboard.press(" ");
  await badge(page, "REPLAY · END", 60_000);
  if (!REAL) {
    const rest = await ask(stage, `book/${symbol}?depth=400&at=${range.last}`);
    assert.deepEqual(await levels(page), { bids: rest.bids, asks: rest.asks });
  }
  await page.close();
});

test("play at the end plays from the beginning", async () => {
  const page = await nearEnd(0n);
  await page.keyboard.press(" ");
  await badge(page, "REPLAY · END", 60_000);
  await page.keyboard.press(" ");
  await eventually(page, () => window.mbostream.player.playing && !window.mbostream.player.loading && BigInt(window.mbostream.player.ns) > window.mbostream.player.range.first, null, 60_000);
  assert.ok(await page.evaluate(() => BigInt(window.mbostream.player.ns) < window.mbostream.player.range.last));
  await page.close();
});

test("a link opens the same instant again", async () => {
  const page = await replay();
  for (let k = 0; k < 3; k++) await page.keyboard.press("n");
  await eventually(page, () => !window.mbostream.player.owed);
  const { hash, ns } = await eventually(page, () => location.hash.includes(window.mbostream.player.ns) && { hash: location.hash, ns: window.mbostream.player.ns });
  const book = await levels(page);
  await page.close();
  const again = await open(stage, hash, { allow: BUSY });
  await eventually(again, () => !window.mbostream.player.loading && window.mbostream.instrument.book.bid !== null, null, 60_000);
  assert.equal(await again.evaluate(() => window.mbostream.player.ns), ns);
  assert.deepEqual(await levels(again), book);
  await again.close();
});

test("the timeline seeks, and G goes back to live", async () => {
  const page = await open(stage, `#symbols=${symbol}`, { allow: BUSY });
  await hasBook(page);
  await eventually(page, () => window.mbostream.player.range !== null);
  const box = await page.locator("#timeline").boundingBox();
  await page.mouse.click(box.x + box.width * 0.4, box.y + box.height / 2);
  await eventually(page, () => window.mbostream.state.get("mode") === "replay" && !window.mbostream.player.loading, null, 60_000);
  const share = await page.evaluate(() => {
    const { range: r, ms } = window.mbostream.player;
    return (ms - Number(r.first) / 1e6) / (Number(r.last - r.first) / 1e6);
  });
  assert.ok(Math.abs(share - 0.4) < 0.08, `sought to ${share}`);
  await page.keyboard.press("g");
  await badge(page, "LIVE", 20_000);
  await hasBook(page);
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("the calendar shows what is recorded, month by month, and a day or a session opens its beginning", async () => {
  const { days } = await ask(stage, `days?symbol=${symbol}`);
  const page = await open(stage, `#symbols=${symbol}`, { allow: BUSY });
  await hasBook(page);
  await eventually(page, (date) => document.querySelector(".day-button span").textContent === date, days[0].date);
  const month = () => page.textContent("#calendar header strong");
  const has = () => page.locator("#calendar .month button.has").evaluateAll((all) => all.map((b) => b.getAttribute("aria-label").slice(0, 10)));
  await page.click(".day-button");
  await page.waitForSelector("#calendar:popover-open");
  const name = (date) => new Date(`${date}T00:00:00Z`).toLocaleDateString("en", { month: "long", year: "numeric", timeZone: "UTC" });
  assert.equal(await month(), name(days[0].date));
  const here = days.map((d) => d.date).filter((d) => d.startsWith(days[0].date.slice(0, 7)));
  assert.deepEqual(await has(), [...new Set(here)].sort());
  assert.equal(await page.locator("#calendar .sessions li").count(), Math.min(40, here.length));
  assert.equal(await page.locator("#calendar .month button:not(.has):not(:disabled)").count(), 0, "a day with nothing cannot be chosen");
  await page.click("#calendar [aria-label='Earlier month']");
  assert.notEqual(await month(), name(days[0].date));
  await page.click("#calendar [aria-label='Later month']");
  assert.equal(await month(), name(days[0].date));
  await page.click("#calendar .month button.has >> nth=-1");
  await eventually(page, () => window.mbostream.state.get("mode") === "replay" && !window.mbostream.player.loading, null, 60_000);
  const at = BigInt(await page.evaluate(() => window.mbostream.player.ns));
  const opened = days.find((d) => BigInt(d.first) <= at && at <= BigInt(d.last));
  assert.equal(opened?.date, here.toSorted().at(-1));
  const shown = () => page.locator("#calendar:popover-open").count();
  assert.equal(await shown(), 0);
  await page.click(".day-button");
  assert.equal(await shown(), 1);
  await page.keyboard.press("Escape");
  await eventually(page, () => document.querySelector("#calendar:popover-open") === null);
  assert.deepEqual(page.faults, []);
  await page.close();
});
