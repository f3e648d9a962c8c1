// Chromium's own EventSource with the README's snippet. stdin: one line of JSON {url, code}; stdout: a line of JSON
// {opens, bids, asks, trades} whenever that changes, until stdin ends.
import { createRequire } from "node:module";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { chromium } = createRequire(new URL("../../e2e/page/harness.mjs", import.meta.url))("playwright-core");
const lines = createInterface({ input: process.stdin });
const { url, code } = JSON.parse((await lines[Symbol.asyncIterator]().next()).value);
const profile = await mkdtemp(join(tmpdir(), "mbo-eventsource-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic"],
});
const page = await browser.newPage();
await page.exposeFunction("tell", (text) => console.log(text));
await page.goto(`${url}/schemas/hello.json`); // same origin, no script of its own
const watch = `
  let opens = 0, last = [0, 0, 0], told = "";
  const trades = [];
  source.addEventListener("open", () => { opens += 1; });
  source.addEventListener("trade", ({ data }) => {
    const e = JSON.parse(data), at = [e.session, e.end, e.ordinal];
    const index = at.findIndex((part, i) => part !== last[i]);
    if (index >= 0 && at[index] > last[index]) { trades.push(e.size); last = at; }
  });
  setInterval(() => {
    const [book] = books.values();
    const text = JSON.stringify({ opens, trades, bids: [...(book?.bids ?? [])], asks: [...(book?.asks ?? [])] });
    if (text !== told) tell((told = text));
  }, 20);
`;
await page.evaluate(`(() => { const URL_OF_GATEWAY = ${JSON.stringify(url)};\n${code}\n${watch} })()`);
await new Promise((resolve) => process.stdin.on("close", resolve).on("end", resolve));
await browser.close();
await rm(profile, { recursive: true, force: true });
