import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";
import { after, before, test } from "node:test";
import { REAL, badge, eventually, fake, hasBook, launch, open, symbolOf } from "./harness.mjs";

const only = { skip: REAL ? "needs the fake gateway" : false };
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

test("the market tree opens an instrument of one venue", only, async () => {
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

test("prices no float can hold are shown exactly", only, async () => {
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

test("the pipeline view shows a killed worker's shards moving to others", only, async () => {
  const page = await open(stage, "#symbols=CLX5&view=pipeline");
  await eventually(page, () => document.querySelectorAll(".pipeline-panel table.sr tbody tr").length === 12);
  await fake(stage, "kill", { worker: "book-4712" });
  await eventually(page, () => document.querySelector(".pipeline-panel table.sr").textContent.includes("nobody"));
  await eventually(page, () => {
    const text = document.querySelector(".pipeline-panel table.sr").textContent;
    return !text.includes("nobody") && !text.includes("book-4712") && document.querySelector(".processes .dead");
  });
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

test("several instruments are one stream", only, async () => {
  const before = (await fake(stage, "calm", { symbol: "CLX5" })).connects;
  const page = await open(stage, "#symbols=CLX5,ESZ5,AAPL,ZNZ5&layout=charts");
  await eventually(page, () => window.mbostream.state.get("tabs").every((t) => window.mbostream.live.instrument(t).book.bid));
  assert.equal((await fake(stage, "calm", { symbol: "CLX5" })).connects - before, 1);
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

test("a thousand book changes a second: the page keeps up and its memory stays bounded", only, async () => {
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
