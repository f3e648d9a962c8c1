import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { startFake } from "../../support/fake_gateway/server.mjs";

/**
 * A browser and something to look at: the fake gateway, or with BASE_URL a real one. Every page collects what must not be:
 * errors on the console, uncaught exceptions, violations of the content security policy.
 */
export const REAL = process.env.BASE_URL ?? null;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

export async function launch() {
  const profile = await mkdtemp(join(tmpdir(), "mbo-page-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, headless: true, args: FLAGS, viewport: { width: 1500, height: 860 }, colorScheme: "dark" });
  const fake = REAL ? null : await startFake();
  return {
    context,
    fake,
    url: REAL ?? fake.url,
    async close() {
      await context.close();
      await fake?.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Opens the page at a fragment; `page.faults` lists what went wrong, except what `allow` matches. */
export async function open(stage, hash = "", { width, height, allow = null, theme = null, reducedMotion = null } = {}) {
  const page = await stage.context.newPage();
  page.faults = [];
  const note = (text) => allow?.test(text) || page.faults.push(text);
  page.on("console", (m) => m.type() === "error" && note(m.text()));
  page.on("pageerror", (e) => note(e.stack ?? String(e)));
  await page.exposeFunction("cspViolated", (text) => page.faults.push(`CSP: ${text}`));
  await page.addInitScript(() => {
    if (!sessionStorage.getItem("fresh")) localStorage.clear();
    sessionStorage.setItem("fresh", "1");
    document.addEventListener("securitypolicyviolation", (e) => window.cspViolated(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
  });
  if (width) await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme: theme, reducedMotion });
  await page.goto(`${stage.url}/${hash}`);
  await page.waitForFunction(() => window.mbostream !== undefined);
  return page;
}

export async function fake(stage, what, query = {}) {
  const response = await fetch(`${stage.url}/fake/${what}?${new URLSearchParams(query)}`);
  if (!response.ok) throw new Error(`fake ${what}: ${response.status}`);
  return response.json();
}

/** Waits until the page says so. */
export async function eventually(page, what, argument = null, timeout = REAL ? 60_000 : 15_000) {
  return (await page.waitForFunction(what, argument, { timeout, polling: 50 })).jsonValue();
}

export const badge = (page, text, timeout = undefined) => eventually(page, (t) => document.querySelector(".badge.state").textContent.startsWith(t), text, timeout);
export const hasBook = (page) => eventually(page, () => window.mbostream.instrument?.book.bid && window.mbostream.instrument?.book.ask && true, null, 30_000);

/** JSON of a route; a gateway that is starting or busy (429, 503) is asked again for a minute. */
export async function ask(stage, path) {
  for (let left = 60; ; left--) {
    const response = await fetch(`${stage.url}/v1/${path}`);
    if (response.ok) return response.json();
    if (![429, 503].includes(response.status) || !left) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    await new Promise((done) => setTimeout(done, 1000));
  }
}

/** Instruments of a real gateway that are live and recorded, the busiest first. */
export async function busiest(stage) {
  for (let left = 90; ; left--) {
    const live = (await ask(stage, "instruments?limit=100")).instruments.filter((i) => i.live && i.first).slice(0, 12);
    if (live.length) {
      const counted = [];
      for (const i of live) {
        const { rows } = await ask(stage, `history/${i.dataset}:${i.instrument_id}/activity?start=${i.first}&end=${BigInt(i.last) + 1n}&buckets=1`);
        counted.push([rows.reduce((sum, r) => sum + r[1], 0), i.symbol]);
      }
      return counted.sort((a, b) => b[0] - a[0]).map(([, symbol]) => symbol);
    }
    if (!left) throw new Error("no live, recorded instrument");
    await new Promise((done) => setTimeout(done, 1000));
  }
}

/** An instrument that exists: of the fake the named one, of a real gateway the busiest. */
export async function symbolOf(stage, wanted = "CLX5") {
  return REAL ? (await busiest(stage))[0] : wanted;
}

/**
 * In the page: keeps every state of a live book by its q, asks /v1/book, resolves with both at the position both know. That
 * is where a delta follows ours without a gap, or q itself: what came before a snapshot (we read too slowly) was not said.
 */
export function compareAtCommonPosition(symbol) {
  const { live } = window.mbostream;
  const view = [...live.groups.values()].flatMap((g) => [...g.views.views.values()]).find((v) => v.channel === "book" && v.instrument.symbol === symbol);
  const { instrument } = view;
  const states = [];
  const record = (q, isDelta) => {
    states.push({ q, isDelta, rows: JSON.stringify(instrument.book.rows()) });
    if (states.length > 3000) states.shift();
  };
  for (const name of ["onSnapshot", "onDelta"]) {
    const original = instrument[name];
    instrument[name] = (e) => {
      original.call(instrument, e);
      record(e.q, name === "onDelta");
    };
  }
  record(view.q, false);
  return new Promise((resolve, reject) => {
    const until = performance.now() + 15_000;
    const ask = async () => {
      const rest = await (await fetch(`v1/book/${symbol}?depth=400`)).json();
      const wait = () => {
        const at = states.findLastIndex((state) => state.q <= rest.q);
        const [state, next] = [states[at], states[at + 1]];
        if (state && (state.q === rest.q || next?.isDelta)) resolve({ q: state.q, restQ: rest.q, page: state.rows, rest: JSON.stringify({ bids: rest.bids, asks: rest.asks }) });
        else if (performance.now() > until) reject(new Error(`no common position: book at ${rest.q}, page ${states[0].q} … ${states.at(-1).q}`));
        else if (!state || next) ask().catch(reject);
        else setTimeout(wait, 30);
      };
      wait();
    };
    ask().catch(reject);
  });
}
