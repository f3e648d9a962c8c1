import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ask, busiest, eventually, hasBook, launch, open } from "./harness.mjs";

/**
 * The pictures of the README, of the pipeline at BASE_URL on this machine: `make screenshots` starts one and calls
 * `node screenshots.mjs [name …]`. The last one kills a book worker.
 */
const OUT = process.env.OUT ?? join(dirname(fileURLToPath(import.meta.url)), "../../../.github/images");
const CHART_MS = 110_000;

const stage = await launch();
const symbols = (await busiest(stage)).slice(0, 4);
const list = symbols.join(",");
const watch = (page) => page.evaluate((specs) => window.mbostream.state.set({ side: true, watch: specs }), symbols);

/** Until the chart has a past, or long enough. */
const filled = (page) => eventually(page, (ms) => window.mbostream.state.get("tabs").every((t) => {
  const { columns } = window.mbostream.source.instrument(t);
  return columns.now && columns.rings[0].first !== null && columns.now - columns.rings[0].first > ms;
}), CHART_MS, 130_000).catch(() => null);

async function replayHash() {
  const { instruments } = await ask(stage, `instruments?search=${symbols[0]}`);
  const row = instruments.find((i) => i.symbol === symbols[0]);
  const [first, last] = [BigInt(row.first), BigInt(row.last)];
  return `#symbols=${symbols.slice(0, 2).join(",")}&mode=replay&t=${first + ((last - first) * 6n) / 10n}`;
}
const rebuilt = (page) => eventually(page, () => !window.mbostream.player.loading && window.mbostream.instrument.book.bid !== null, null, 120_000);

const scenes = {
  async dark() {
    const page = await open(stage, `#symbols=${symbols.slice(0, 3).join(",")}`, { theme: "dark", width: 1440, height: 810 });
    await hasBook(page);
    await watch(page);
    await filled(page);
    return page;
  },
  async light() {
    const page = await open(stage, `#symbols=${symbols.slice(0, 3).join(",")}`, { theme: "light", width: 1440, height: 810 });
    await hasBook(page);
    await filled(page);
    await page.evaluate(() => {
      const i = window.mbostream.instrument;
      const level = i.book.asks.levels[Math.min(3, i.book.asks.levels.length - 1)];
      const [, , third] = i.orders.queue("A", level.text);
      window.mbostream.state.set({ side: false, level: { spec: window.mbostream.state.activeTab.spec, side: "A", row: level.row, group: 1 } });
      if (third) window.mbostream.emit("track", third.id);
    });
    await page.waitForSelector(".queue-box tbody tr");
    return page;
  },
  async wide() {
    const page = await open(stage, `#symbols=${list}`, { theme: "dark", width: 2560, height: 1080 });
    await hasBook(page);
    await watch(page);
    await filled(page);
    return page;
  },
  async ladders() {
    const page = await open(stage, `#symbols=${list}&layout=ladders`, { theme: "dark", width: 1440, height: 810 });
    await hasBook(page);
    await page.evaluate(() => window.mbostream.state.set({ side: false }));
    await filled(page);
    return page;
  },
  async phone() {
    const page = await open(stage, `#symbols=${symbols.slice(0, 2).join(",")}`, { theme: "dark", width: 390, height: 844 });
    await hasBook(page);
    await filled(page);
    return page;
  },
  async replay() {
    const page = await open(stage, await replayHash(), { theme: "dark", width: 1440, height: 810 });
    await rebuilt(page);
    await page.evaluate(() => window.mbostream.state.set({ side: false }));
    await page.evaluate(() => window.mbostream.player.toggle());
    await eventually(page, (from) => window.mbostream.player.ms > from + 2000, await page.evaluate(() => window.mbostream.player.ms), 60_000);
    await page.click(".day-button");
    return page;
  },
  async pipeline() {
    const page = await open(stage, `#symbols=${list}&view=pipeline`, { theme: "dark", width: 1440, height: 810 });
    await page.waitForSelector(".processes li");
    await page.evaluate(() => window.mbostream.state.set({ side: false }));
    await eventually(page, () => [...window.mbostream.stage.panels[0].model.lanes.values()].some((l) => l.history.length > 25), null, 60_000);
    process.kill((await ask(stage, "pipeline")).processes.find((p) => p.role === "book" && p.alive).pid, "SIGKILL");
    await eventually(page, () => document.querySelector(".pipeline-panel table.sr").textContent.includes("nobody") || document.querySelector(".happened .good"));
    return page;
  },
};

await mkdir(OUT, { recursive: true });
const wanted = process.argv.slice(2);
for (const [name, scene] of Object.entries(scenes)) {
  if (wanted.length && !wanted.includes(name)) continue;
  const page = await scene();
  await page.mouse.move(5, 5);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 300))));
  await page.screenshot({ path: join(OUT, `${name}.png`) });
  if (page.faults.length) process.stderr.write(`${name}: ${page.faults.join("\n")}\n`);
  process.stdout.write(`${name}.png\n`);
  await page.close();
}
await stage.close();
