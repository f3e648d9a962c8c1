import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { badge, compareAtCommonPosition, hasBook, launch, open } from "./harness.mjs";

/** What is wrong with a real pipeline is said on the page, and taken back once it is mended: without a reload. */
const { CONTROL } = process.env;
const NETWORK = /ERR_|Failed to load resource|status of (429|503)/;
let stage;
before(async () => (stage = await launch()));
after(() => stage.close());

/** Lets test_in_chromium.py do something to the pipeline (`Mishaps` there). */
async function cause(what) {
  const response = await fetch(`${CONTROL}/${what}`);
  assert.equal(response.status, 200, await response.text());
}
const title = (page) => page.getAttribute(".badge.state", "title");
async function right(page) {
  let found = {};
  // A snapshot that comes between is no position the comparison knows of: then it is made again.
  for (let left = 5; left && (found.page === undefined || found.page !== found.rest); left--) found = await page.evaluate(compareAtCommonPosition, "ONE");
  assert.equal(found.page, found.rest);
  assert.ok(await page.evaluate(() => window.notReloaded));
}

test("stale, slow and a gap, one after the other, are said and taken back", async () => {
  const page = await open(stage, "#symbols=ONE", { allow: NETWORK });
  await hasBook(page);
  await page.evaluate(() => (window.notReloaded = true));

  await badge(page, "STALE"); // the first file is cut off
  assert.match(await title(page), /gap/);
  await cause("next-file"); // begins every book anew
  await badge(page, "LIVE");
  await right(page);

  await cause("stall"); // the network takes nothing any more
  await cause("flow"); // answers once the gateway has given the page up
  await badge(page, "SLOW");
  assert.ok((await title(page)).length > 5);
  await badge(page, "LIVE");
  await right(page);

  await cause("lose"); // what the gateway has not read is gone, and there is no image
  await badge(page, "GAP");
  assert.match(await title(page), /lost its place/);
  await badge(page, "LIVE", 90_000); // by the next image
  await hasBook(page);
  await right(page);
  assert.deepEqual(page.faults, []);
  assert.equal(await page.locator(".notice.bad").count(), 0);
  await page.close();
});
