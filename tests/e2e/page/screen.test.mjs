import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";
import { after, before, test } from "node:test";
import { REAL, badge, eventually, hasBook, launch, open, symbolOf } from "./harness.mjs";

let stage;
let symbol;
before(async () => {
  stage = await launch();
  symbol = await symbolOf(stage);
});
after(() => stage.close());

async function axe(page) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations.filter((v) => ["serious", "critical", "moderate"].includes(v.impact)).map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target} ${n.failureSummary?.split("\n")[1] ?? ""}`).join(" | ")}`);
}

for (const [name, options] of Object.entries({ dark: { theme: "dark" }, light: { theme: "light" }, phone: { theme: "dark", width: 390, height: 844 }, "4K": { theme: "light", width: 3840, height: 2160 } }))
  test(`axe finds nothing, no error, no CSP violation: ${name}`, async () => {
    const page = await open(stage, `#symbols=${symbol}`, options);
    await hasBook(page);
    await badge(page, "LIVE");
    assert.deepEqual(await axe(page), []);
    assert.deepEqual(page.faults, []);
    const spill = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(spill <= 0, `the page is ${spill} px too wide`);
    await page.close();
  });

for (const [name, act, selector] of [["switcher", "/", "#switcher[open] li"], ["help", "?", "#help[open] kbd"], ["export", "e", "#export[open] textarea"], ["pipeline", "p", ".processes li"]])
  test(`axe finds nothing in the ${name}`, async () => {
    const page = await open(stage, `#symbols=${symbol}`);
    await hasBook(page);
    await page.keyboard.press(act);
    await page.waitForSelector(selector);
    assert.deepEqual(await axe(page), []);
    assert.deepEqual(page.faults, []);
    await page.close();
  });

test("without a link the page finds something to show by itself", async () => {
  const page = await open(stage, "", { allow: /status of 429/ });
  await hasBook(page);
  await badge(page, "LIVE");
  await page.evaluate(() => window.mbostream.state.set({ side: true, sideTab: "watch" }));
  await eventually(page, () => document.querySelectorAll(".watch-list li").length > 1 && / × /.test(document.querySelector(".watch-list .price").textContent));
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("an instrument is found among thousands by keyboard alone and opened", async () => {
  const page = await open(stage, `#symbols=${symbol}`);
  await hasBook(page);
  await page.keyboard.press("/");
  await page.waitForSelector("#switcher[open] li");
  const wanted = REAL ? symbol : "RTYZ7";
  await page.keyboard.type(wanted);
  await eventually(page, (s) => document.querySelector("#switcher li[aria-selected=true] strong")?.textContent === s, wanted);
  if (!REAL) assert.match(await page.textContent("#switcher > p"), /^1 instrument$/);
  await page.keyboard.press("Enter");
  await eventually(page, (s) => window.mbostream.state.activeTab.spec === s, wanted);
  await hasBook(page);
  await page.close();
});

test("watched instruments have quotes on one more stream", async () => {
  const page = await open(stage, `#symbols=${symbol}`);
  await hasBook(page);
  await page.keyboard.press("w");
  await eventually(page, () => {
    window.mbostream.state.set({ side: true });
    return /\d × /.test(document.querySelector(".watch-list .price")?.textContent ?? "");
  });
  await page.close();
});

test("the export dialog gives a command that works", async () => {
  const page = await open(stage, `#symbols=${symbol}`);
  await hasBook(page);
  await eventually(page, () => window.mbostream.player.range !== null);
  await page.keyboard.press("e");
  await page.selectOption("#export select[name=schema]", "trades");
  await page.selectOption("#export select[name=format]", "csv");
  const command = await page.inputValue("#export textarea");
  const url = /'(.+)'/.exec(command)[1];
  const response = await fetch(url);
  assert.equal(response.status, 200);
  assert.match(await response.text(), /price/);
  await page.close();
});

test("layout, theme and instruments are the same after a reload", async () => {
  const page = await open(stage, `#symbols=${symbol}`);
  await hasBook(page);
  await page.keyboard.press("y");
  await page.keyboard.press("d");
  await page.goto("about:blank");
  await page.goto(`${stage.url}/`);
  await page.waitForFunction(() => window.mbostream);
  assert.deepEqual(await page.evaluate(() => [window.mbostream.state.get("layout"), document.documentElement.dataset.theme, window.mbostream.state.activeTab.spec]), ["ladders", "dark", symbol]);
  await page.close();
});

test("reduced motion: nothing flashes or glides, the chart moves in whole seconds", async () => {
  const page = await open(stage, `#symbols=${symbol}`, { reducedMotion: "reduce" });
  await hasBook(page);
  const now = await eventually(page, () => {
    const chart = window.mbostream.stage.panels.find((p) => p.followAll);
    return chart.view.now > 0 && chart.view.now;
  });
  assert.equal(now % 1000, 0);
  await page.close();
});

