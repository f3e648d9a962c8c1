import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { REAL, ask, badge, eventually, hasBook, launch, open, symbolOf } from "./harness.mjs";

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

test("the gateway is killed under the page: it resumes, without a reload, with the true book and no trade twice", only, async () => {
  const page = await open(stage, `#symbols=${symbol}`, { allow: NETWORK });
  await hasBook(page);
  await badge(page, "LIVE");
  await page.evaluate(() => (window.notReloaded = true));
  const { events } = await page.evaluate(() => ({ events: window.mbostream.instrument.events }));
  process.kill(await pidOf("gateway"), "SIGKILL");
  await eventually(page, () => /RECONNECTING|CONNECTING/.test(document.querySelector(".badge.state").textContent), null, 20_000);
  await eventually(page, (n) => window.mbostream.live.connection.phase === "open" && window.mbostream.instrument.events > n + 5, events, 120_000);
  assert.ok(await page.evaluate(() => window.notReloaded));
  const same = await eventually(page, async (s) => {
    const rest = await (await fetch(`v1/book/${s}?depth=400`)).json();
    return JSON.stringify(window.mbostream.instrument.book.rows()) === JSON.stringify({ bids: rest.bids, asks: rest.asks });
  }, symbol, 60_000);
  assert.ok(same);
  await page.close();
});

test("a book worker is killed: its shards wait in the pipeline view, then flow again", only, async () => {
  const page = await open(stage, `#symbols=${symbol}&view=pipeline`, { allow: NETWORK });
  await eventually(page, () => document.querySelectorAll(".pipeline-panel table.sr tbody tr").length > 0);
  const owners = () => window.mbostream.stage.panels[0].model.feeds.flatMap((f) => f.shards.map((s) => [s.owner, s.epoch]));
  const before = await page.evaluate(owners);
  process.kill(await pidOf("book"), "SIGKILL");
  await eventually(page, (old) => JSON.stringify(window.mbostream.stage.panels[0].model.feeds.flatMap((f) => f.shards.map((s) => [s.owner, s.epoch]))) !== JSON.stringify(old), before, 120_000);
  await eventually(page, () => window.mbostream.stage.panels[0].model.feeds.every((f) => f.shards.every((s) => s.owner && (s.lag.book ?? 0) < 2000)), null, 120_000);
  await page.close();
});
