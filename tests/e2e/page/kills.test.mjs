import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { REAL, ask, badge, compareAtCommonPosition, eventually, hasBook, launch, open, symbolOf } from "./harness.mjs";

/** Processes of a real pipeline on this machine are killed under the page (BASE_URL=http://127.0.0.1:8080 of `mbo demo`). */
const only = { skip: REAL ? false : "needs a real pipeline: set BASE_URL" };
const NETWORK = /ERR_|Failed to load resource/;
let stage;
let symbol;
before(async () => {
  if (!REAL) return;
  stage = await launch();
  symbol = await symbolOf(stage);
});
after(() => stage?.close());

const pidOf = async (role) => (await ask(stage, "pipeline")).processes.find((p) => p.role === role && p.alive).pid;

/** Trades of history from `first` to `last`, once it has `n` of them (it is written a little later) or a minute is over. */
async function traded(first, last, n) {
  for (let left = 60; ; left--) {
    const { rows } = await ask(stage, `history/${symbol}/trades?start=${first}&end=${BigInt(last) + 1n}&limit=10000`);
    if (rows.length >= n || !left) return rows.map((r) => [r.ts_recv, r.price, r.size, r.side]);
    await new Promise((done) => setTimeout(done, 1000));
  }
}

test("the gateway is killed under the page: it resumes, without a reload, with the true book and no trade twice", only, async () => {
  const page = await open(stage, `#symbols=${symbol}`, { allow: NETWORK });
  await hasBook(page);
  await badge(page, "LIVE");
  await page.evaluate(() => (window.notReloaded = true));
  process.kill(await pidOf("gateway"), "SIGKILL");
  await eventually(page, () => /RECONNECTING|CONNECTING/.test(document.querySelector(".badge.state").textContent), null, 20_000);
  // Counted from here: a stream is open before its hello, and what came before the kill is no sign of a resume.
  const events = await page.evaluate(() => window.mbostream.instrument.events);
  await eventually(page, (n) => window.mbostream.live.connection.phase === "open" && window.mbostream.instrument.events > n + 5, events, 120_000);
  assert.ok(await page.evaluate(() => window.notReloaded));
  const { page: shown, rest } = await page.evaluate(compareAtCommonPosition, symbol);
  assert.equal(shown, rest);
  const tape = await page.evaluate(() => window.mbostream.instrument.trades.tape.map((t) => [t.ts, t.price, t.size, t.side]));
  const whole = tape.filter(([ts]) => BigInt(ts) > BigInt(tape[0][0])); // the oldest time kept may be cut
  const recorded = await traded(whole[0][0], whole.at(-1)[0], whole.length);
  const [shownTrades, recordedTrades] = [whole, recorded].map((rows) => rows.map((row) => row.join(" ")));
  const differ = shownTrades.findIndex((row, i) => row !== recordedTrades[i]);
  assert.deepEqual(shownTrades.slice(differ - 3, differ + 5), recordedTrades.slice(differ - 3, differ + 5), `from trade ${differ} of ${whole.length} shown, ${recorded.length} recorded`);
  await page.close();
});

test("a book worker is killed: the view says who lost which shards and who took them, then all flow again", only, async () => {
  const page = await open(stage, `#symbols=${symbol}&view=pipeline`, { allow: NETWORK });
  await eventually(page, () => document.querySelectorAll(".pipeline-panel table.sr tbody tr").length > 0);
  process.kill(await pidOf("book"), "SIGKILL");
  const said = await eventually(page, () => {
    const rows = [...document.querySelectorAll(".happened li")].map((li) => li.textContent);
    return rows.some((text) => /(taken|moved)/.test(text)) && rows;
  }, null, 120_000);
  assert.ok(said.some((text) => /#\d+( #\d+)* (taken (again )?by|moved from)/.test(text)), said.join("; "));
  await eventually(page, () => window.mbostream.stage.panels[0].model.feeds.every((f) => f.shards.every((s) => s.owner && (s.lag.book ?? 0) < 2000)), null, 120_000);
  await page.close();
});
