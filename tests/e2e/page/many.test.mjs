import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, eventually, hasBook, launch, open } from "./harness.mjs";

/** A feed of thousands of instruments (the simulator's): found by a part of the name or by id, and opened. */
const COUNT = 3000;
const SHOWN = 60;
let stage;
let wanted;
before(async () => {
  stage = await launch();
  const rows = (await ask(stage, "instruments?limit=10000")).instruments;
  assert.equal(rows.length, COUNT);
  wanted = rows.filter((row) => row.live && /\d{4}$/.test(row.symbol)).at(-1);
});
after(() => stage.close());

const said = (page, text) => eventually(page, (t) => document.querySelector("#switcher > p").textContent.startsWith(t), text);
const chosen = (page, symbol) => eventually(page, (s) => document.querySelector("#switcher li[aria-selected=true] strong")?.textContent === s, symbol);

test("of three thousand the first are shown with how many there are, and typing narrows them to one", async () => {
  const page = await open(stage, "#symbols=ESZ6");
  await hasBook(page);
  await page.keyboard.press("/");
  await said(page, `3,000 instruments, the first ${SHOWN} are shown`);
  assert.equal(await page.locator("#switcher li").count(), SHOWN);
  await page.keyboard.type(wanted.symbol.slice(0, 2).toLowerCase());
  const rows = (await ask(stage, `instruments?search=${wanted.symbol.slice(0, 2)}`)).total;
  await said(page, `${rows.toLocaleString("en-US")} instruments`);
  await page.keyboard.type(wanted.symbol.slice(2));
  await said(page, "1 instrument");
  await chosen(page, wanted.symbol);
  await page.keyboard.press("Enter");
  await eventually(page, (s) => window.mbostream.state.activeTab.spec === s, wanted.symbol);
  await hasBook(page);
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("an id finds its instrument", async () => {
  const page = await open(stage, "#symbols=ESZ6");
  await hasBook(page);
  await page.keyboard.press("/");
  await page.waitForSelector("#switcher[open] li");
  await page.keyboard.type(String(wanted.instrument_id));
  await said(page, "1 instrument");
  await chosen(page, wanted.symbol);
  await page.close();
});

test("the list is gone through by keys, page by page, and what is not there is said", async () => {
  const page = await open(stage, "#symbols=ESZ6");
  await hasBook(page);
  await page.keyboard.press("/");
  await said(page, "3,000 instruments");
  for (const [key, index] of [["PageDown", 10], ["ArrowDown", 11], ["PageUp", 1], ["ArrowUp", 0], ["ArrowUp", 0]]) {
    await page.keyboard.press(key);
    assert.equal(await page.locator("#switcher li[aria-selected=true]").getAttribute("id"), `option-${index}`);
  }
  await page.keyboard.type("nosuchthing");
  await said(page, "nothing is called “nosuchthing”");
  await page.close();
});

test("the market tree gives them out page by page", async () => {
  const page = await open(stage, "#symbols=ESZ6");
  await hasBook(page);
  await page.evaluate(() => window.mbostream.state.set({ side: true, sideTab: "markets" }));
  await page.click(".tree .branch:has-text('All venues')");
  const leaves = page.locator(".tree .leaf:visible");
  for (const expected of [100, 200]) {
    await eventually(page, (n) => document.querySelectorAll(".tree .leaf").length === n, expected);
    assert.equal(await leaves.count(), expected);
    await page.click(".tree .link:has-text('more of 3,000')");
  }
  await page.fill("[aria-label='Filter instruments']", wanted.symbol);
  await eventually(page, (s) => [...document.querySelectorAll(".tree .leaf")].map((leaf) => leaf.textContent).join() === s, wanted.symbol);
  await page.close();
});
