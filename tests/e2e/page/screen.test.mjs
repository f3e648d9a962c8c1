import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";
import { after, before, test } from "node:test";
import { REAL, ask, badge, eventually, hasBook, launch, open, symbolOf } from "./harness.mjs";

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

test("a link to the pipeline alone opens the pipeline", async () => {
  const page = await open(stage, "#view=pipeline");
  await eventually(page, () => document.querySelectorAll(".pipeline-panel").length === 1 && window.mbostream.instrument);
  assert.match(await page.evaluate(() => location.hash), /view=pipeline/);
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

/** What a file of each format must look like; returns how many rows it has, where that can be seen. */
const LOOKS = {
  dbn: (bytes) => assert.equal(bytes.subarray(0, 3).toString("latin1"), "DBN"),
  csv: (bytes) => {
    const [head, ...rows] = bytes.toString("utf8").trimEnd().split("\n");
    assert.match(head, /^\w+(,\w+)+$/);
    for (const row of rows) assert.equal(row.split(",").length, head.split(",").length);
    return rows.length;
  },
  json: (bytes) => bytes.toString("utf8").trimEnd().split("\n").filter((line) => line && typeof JSON.parse(line) === "object").length,
  parquet: (bytes) => assert.deepEqual([bytes.subarray(0, 4).toString("latin1"), bytes.subarray(-4).toString("latin1")], ["PAR1", "PAR1"]),
};
/** When the instrument's recording began, ms, once it is so many seconds long. */
async function recordedFrom(seconds) {
  for (let left = 60; left; left--) {
    const row = (await ask(stage, `instruments?search=${symbol}`)).instruments.find((i) => i.symbol === symbol);
    if (row.first && BigInt(row.last) - BigInt(row.first) > BigInt(seconds) * 1_000_000_000n) return Number(BigInt(row.first) / 1_000_000n);
    await new Promise((done) => setTimeout(done, 1000));
  }
  throw new Error(`not ${seconds} s are recorded`);
}
for (const schema of ["mbo", "mbp-1", "mbp-10", "trades", "bars"])
  test(`the export dialog gives a command that works in every format: ${schema}`, async () => {
    const page = await open(stage, `#symbols=${symbol}`);
    await hasBook(page);
    const first = await recordedFrom(20);
    await eventually(page, () => window.mbostream.player.range !== null);
    await page.keyboard.press("e");
    await page.selectOption("#export select[name=schema]", schema);
    await page.check("#export input[value=own]");
    const [start, end] = ["#export input[aria-label='Start, UTC']", "#export input[aria-label='End, UTC']"];
    const text = (ms) => new Date(ms).toISOString().slice(0, 19);
    await page.fill(start, text(first + 7_000)); // past the opening: there are trades
    await page.fill(end, text(first + 15_000)); // and nothing is still being recorded
    assert.equal(await page.locator("#export option[value=dbn]").isDisabled(), schema === "bars");
    const rows = {};
    for (const format of Object.keys(LOOKS).filter((f) => schema !== "bars" || f !== "dbn")) {
      await page.selectOption("#export select[name=format]", format);
      const command = await page.inputValue("#export textarea");
      const [, url, file] = /^curl -fsS '(.+)' \\\n {2}-o (\S+)$/.exec(command);
      assert.equal(url, await page.evaluate(() => document.querySelector("#export a.primary").href), "the link and the command are the same");
      assert.ok(file.endsWith({ json: "jsonl" }[format] ?? format));
      const response = await fetch(url);
      assert.equal(response.status, 200, `${url}: ${await (response.ok ? "" : response.text())}`);
      rows[format] = LOOKS[format](Buffer.from(await response.arrayBuffer()));
    }
    assert.ok(rows.csv > 0);
    assert.equal(rows.csv, rows.json);
    await page.fill(end, text(first));
    assert.match(await page.inputValue("#export textarea"), /start must lie before the end/);
    assert.equal(await page.locator("#export a.primary[href]").count(), 0);
    assert.deepEqual(page.faults, []);
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


test("by keyboard the focus stays where it was when an instrument is chosen", async () => {
  const page = await open(stage, `#symbols=${symbol}`);
  await hasBook(page);
  await page.evaluate(() => window.mbostream.state.open(`${window.mbostream.instrument.dataset}:${window.mbostream.instrument.symbol}`));
  await page.keyboard.press("1");
  const focused = (selector) => page.evaluate((s) => document.activeElement.matches(s), selector);
  await page.keyboard.press("Tab");
  await page.focus(".tab:nth-child(2) .tab-name");
  await page.keyboard.press("Enter");
  assert.ok(await focused(".tab.active .tab-name"), "the tab");
  await page.focus(".ladder canvas");
  await page.keyboard.press("k");
  assert.ok(await focused(".ladder canvas"), "the ladder");
  await page.close();
});

test("nothing that changes with every trade speaks, and before any data the header claims nothing", async () => {
  const page = await open(stage, `#symbols=${symbol}`);
  await hasBook(page);
  assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll("#figures output, #figures [role=status]")].filter((n) => n.ariaLive !== "off").map((n) => n.className)), []);
  await page.evaluate(() => {
    window.mbostream.live.stop();
    window.mbostream.instrument.reset();
  });
  await eventually(page, () => [...document.querySelectorAll(".figure.bid dd, .figure.ask dd")].every((n) => n.textContent === "–"));
  await page.close();
});

test("where no chart has been shown the export offers the recorded day, not a time of 1970", async () => {
  const page = await open(stage, `#symbols=${symbol}&layout=ladders`);
  await hasBook(page);
  await page.keyboard.press("e");
  const { shown, text } = await page.evaluate(() => ({ shown: document.querySelector("#export input[value=shown]").disabled, text: document.querySelector("#export textarea").value }));
  assert.ok(shown);
  assert.doesNotMatch(text, /start=-/);
  await page.close();
});

test("nothing of a panel's head wraps on a tablet", async () => {
  const page = await open(stage, `#symbols=${symbol}`, { width: 768, height: 1024 });
  await hasBook(page);
  assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll(".panel-head button")].filter((b) => b.offsetHeight > 28).map((b) => b.textContent)), []);
  await page.close();
});
