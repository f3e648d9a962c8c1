import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { badge, eventually, launch, open } from "./harness.mjs";

/**
 * A real file replayed: at each instant of INSTANTS (JSON: [{t, bids, asks}], from the reference engine; see
 * test_in_chromium.py) the page shows that book.
 */
const instants = process.env.INSTANTS ? JSON.parse(process.env.INSTANTS) : [];
const only = { skip: instants.length ? false : "needs a pipeline with a real file: run by test_in_chromium.py" };
const BUSY = /status of 429/; // the gateway limits how much history one client asks at once; the page waits and asks again
let stage;
before(async () => (stage = instants.length ? await launch() : null));
after(() => stage?.close());

const shown = (page, t) => eventually(page, (ns) => {
  const { player, instrument } = window.mbostream;
  return !player.loading && player.ns === ns && instrument.book.version && { ...instrument.book.rows(), auction: instrument.book.auction };
}, t, 60_000);

test("a link to an instant of a real file, then seeking there and back, shows the reference engine's books", only, async () => {
  const page = await open(stage, `#symbols=CLX5&mode=replay&t=${instants[0].t}`, { allow: BUSY });
  const order = [...instants.keys(), ...[...instants.keys()].reverse()];
  for (const k of order) {
    const { t, auction, bids, asks } = instants[k];
    await page.evaluate((ns) => window.mbostream.player.seek(ns), t);
    assert.deepEqual(await shown(page, t), { bids, asks, auction });
  }
  await badge(page, "REPLAY · PAUSED");
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("in the pre-open auction the crossed book is shown uncrossed, with the indicative price", only, async () => {
  const { t, auction } = instants.at(-1);
  assert.ok(auction, "the file ends crossed");
  const page = await open(stage, `#symbols=CLX5&mode=replay&t=${t}`);
  const { bids, asks } = await shown(page, t);
  assert.ok(Number(bids[0][0]) < Number(asks[0][0]));
  await eventually(page, ({ price, size }) => {
    const chip = document.querySelector(".auction");
    return !chip.hidden && chip.textContent === `Auction · indicative ${Number(price).toFixed(2)} × ${size}`;
  }, auction);
  await page.close();
});
