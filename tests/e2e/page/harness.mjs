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
export async function eventually(page, what, argument = null, timeout = 10_000) {
  return (await page.waitForFunction(what, argument, { timeout, polling: 50 })).jsonValue();
}

export const badge = (page, text, timeout = 10_000) => eventually(page, (t) => document.querySelector(".badge.state").textContent.startsWith(t), text, timeout);
export const hasBook = (page) => eventually(page, () => window.mbostream.instrument?.book.bid && window.mbostream.instrument?.book.ask && true, null, 30_000);

/** An instrument that exists: of the fake the named one, of a real gateway the first live. */
export async function symbolOf(stage, wanted = "CLX5") {
  if (!REAL) return wanted;
  const { instruments } = await (await fetch(`${stage.url}/v1/instruments?limit=50`)).json();
  return instruments.find((i) => i.live).symbol;
}
