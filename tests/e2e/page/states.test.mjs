import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { REAL, badge, eventually, fake, hasBook, launch, open } from "./harness.mjs";

/** What goes wrong is said, and mended without a reload. On the fake gateway, which can cause each on demand. */
const only = { skip: REAL ? "needs the fake gateway" : false };
const NETWORK = /ERR_|Failed to load resource/;
let stage;
before(async () => (stage = await launch()));
after(() => stage.close());
afterEach(async () => !REAL && (await fake(stage, "calm", { symbol: "CLX5" })));

async function live(options = {}) {
  const page = await open(stage, "#symbols=CLX5", options);
  await hasBook(page);
  await badge(page, "LIVE");
  await page.evaluate(() => (window.notReloaded = true));
  return page;
}
const still = (page) => page.evaluate(() => window.notReloaded === true);

test("a dropped connection is resumed with the last id, without a reload, trades not doubled", only, async () => {
  const page = await live({ allow: NETWORK });
  const before = await page.evaluate(() => {
    window.phases = [];
    window.mbostream.on("connection", (c) => window.phases.push(c.phase));
    return window.mbostream.instrument.trades.volume;
  });
  await fake(stage, "drop");
  await eventually(page, () => window.phases.join().startsWith("waiting,connecting,open"));
  await badge(page, "LIVE");
  const seen = await eventually(page, (v) => window.mbostream.instrument.trades.volume > v && window.mbostream.instrument.trades.tape.map((t) => `${t.ts}/${t.price}/${t.size}/${t.side}`), before);
  assert.ok(seen.length > 0);
  assert.ok(await still(page));
  await page.close();
});

test("while the gateway is away the page says so and comes back", only, async () => {
  const page = await live({ allow: NETWORK });
  await fake(stage, "refuse", { ms: 1500 });
  await badge(page, "RECONNECTING");
  await badge(page, "LIVE", 15_000);
  assert.ok(await still(page));
  await page.close();
});

const show = (page, hidden) =>
  page.evaluate((h) => {
    Object.defineProperty(document, "hidden", { value: h, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);

test("a page in the background gives its connection back, and goes on by the last id when it is looked at", only, async () => {
  const page = await live({ allow: NETWORK });
  const streams = async () => (await fake(stage, "calm", { symbol: "CLX5" })).clients;
  const before = await streams();
  await page.evaluate(() => (window.mbostream.live.restMs = 20));
  await show(page, true);
  for (let left = 100; (await streams()) !== before - 1; left--) assert.ok(left, "the stream is still open");
  const seen = await page.evaluate(() => {
    window.first = window.mbostream.instrument;
    return window.first.trades.tape.map((t) => `${t.ts}/${t.price}/${t.size}`);
  });
  await show(page, false);
  await badge(page, "LIVE");
  assert.equal(await streams(), before);
  const later = await eventually(page, (n) => {
    const { tape } = window.mbostream.instrument.trades;
    return tape.length > n && tape.map((t) => `${t.ts}/${t.price}/${t.size}`);
  }, seen.length);
  assert.ok(await page.evaluate(() => window.first === window.mbostream.instrument), "what was seen is still there");
  assert.equal(later.filter((t) => t === seen.at(-1)).length, seen.filter((t) => t === seen.at(-1)).length);
  await show(page, true);
  await eventually(page, () => window.mbostream.live.restedAt !== null);
  await page.evaluate(() => (window.mbostream.live.restedAt -= 3_600_000));
  await show(page, false);
  await hasBook(page);
  await badge(page, "LIVE");
  assert.ok(await page.evaluate(() => window.first !== window.mbostream.instrument), "after an hour it begins anew");
  assert.deepEqual(page.faults, []);
  assert.ok(await still(page));
  await page.close();
});

test("a page opened in the background gives its connection back too", only, async () => {
  const page = await stage.context.newPage();
  await page.addInitScript(() => Object.defineProperty(Document.prototype, "hidden", { get: () => true }));
  await page.goto(`${stage.url}/#symbols=CLX5`);
  await eventually(page, () => window.mbostream?.live.resting !== undefined);
  await page.close();
});

test("bye: slow is shown as slow, then resumed", only, async () => {
  const page = await live();
  await fake(stage, "bye", { reason: "slow", retry: "900" });
  await badge(page, "SLOW");
  await badge(page, "LIVE", 20_000);
  await page.close();
});

test("bye: ended is the end, with the last state still shown", only, async () => {
  const page = await live();
  await fake(stage, "bye", { reason: "ended", detail: "the source has ended", retry: "null" });
  await badge(page, "ENDED");
  assert.ok(await page.evaluate(() => window.mbostream.instrument.book.bid !== null));
  await page.close();
});

test("gap, stale and halt are named, with the reason on hover", only, async () => {
  const page = await live();
  for (const [what, name] of [["gap", "GAP"], ["stale", "STALE"], ["halt", "HALT"]]) {
    await fake(stage, what, { symbol: "CLX5" });
    await badge(page, name);
    assert.ok((await page.getAttribute(".badge.state", "title")).length > 5);
  }
  await fake(stage, "calm", { symbol: "CLX5" });
  await badge(page, "LIVE");
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("a crossed book shows its auction, and the chip goes with it", only, async () => {
  const page = await live();
  await fake(stage, "auction", { symbol: "CLX5" });
  await eventually(page, () => /^Auction · indicative \d+\.\d\d × 348$/.test(document.querySelector(".auction").textContent) && !document.querySelector(".auction").hidden);
  await badge(page, "LIVE · AUCTION");
  await fake(stage, "calm", { symbol: "CLX5" });
  await eventually(page, () => document.querySelector(".auction").hidden);
  await page.close();
});

test("a delta that does not follow is not applied; the page asks anew and is right again", only, async () => {
  const page = await live();
  await fake(stage, "skip");
  await eventually(page, () => window.mbostream.live.dropped > 0);
  await badge(page, "RESYNC");
  await badge(page, "LIVE", 15_000);
  await page.close();
});

test("a new session drops the old book", only, async () => {
  const page = await live();
  const session = await page.evaluate(() => window.mbostream.instrument.session);
  await fake(stage, "session", { symbol: "CLX5" });
  await eventually(page, (s) => window.mbostream.instrument.session === s + 1 && window.mbostream.instrument.book.bid !== null, session);
  await badge(page, "LIVE");
  await page.close();
});

test("an instrument that is gone is closed with a word, the others stay", only, async () => {
  const page = await open(stage, "#symbols=CLX5,GONE9", { allow: NETWORK });
  await eventually(page, () => document.querySelector(".notice.bad")?.textContent.includes("GONE9"));
  await hasBook(page);
  assert.deepEqual(await page.evaluate(() => window.mbostream.state.get("tabs").map((t) => t.spec)), ["CLX5"]);
  await page.close();
});

test("a gateway that wants a key gets one, and a wrong key is told apart", only, async () => {
  await fake(stage, "auth", { on: "1" });
  const page = await open(stage, "#symbols=CLX5", { allow: NETWORK });
  await page.waitForSelector("#login[open]");
  await page.fill("#login input", "wrong");
  await page.click("#login .primary");
  await eventually(page, () => document.querySelector("#login .error").textContent.includes("mbo keys"));
  await page.evaluate(() => window.mbostream.state.set({ side: true, sideTab: "watch", watch: ["CLX5"] }));
  await page.fill("#login input", "letmein");
  await page.click("#login .primary");
  await hasBook(page);
  await eventually(page, () => / × /.test(document.querySelector(".watch-list .price").textContent));
  await badge(page, "LIVE");
  await page.close();
});
