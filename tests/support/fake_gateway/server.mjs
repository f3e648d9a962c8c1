#!/usr/bin/env node
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { answer, catalogue, live } from "./instruments.mjs";
import { Pipeline } from "./pipeline.mjs";
import { Recording, recordedDay } from "./recording.mjs";
import { View } from "./views.mjs";

/**
 * A gateway with a made-up market: serves the page and speaks the protocol of services/gateway/README.md, so the page's
 * tests can cause what is rare (a gap, a slow client, a crossed book) on demand: POST /fake/<what>.
 *   node server.mjs [--port 8090] [--rate 1]
 */
const here = dirname(fileURLToPath(import.meta.url));
const STATIC = join(here, "../../../services/gateway/static");
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
  ".woff2": "font/woff2", ".svg": "image/svg+xml", ".json": "application/json", ".webmanifest": "application/manifest+json" };
const LIVE_PAST_S = 180;
const DAY_MS = Date.UTC(2025, 8, 24, 13, 30);

export function startFake({ port = 0, rate = 1 } = {}) {
  const instruments = catalogue();
  const bySymbol = new Map();
  for (const i of instruments) for (const key of [i.symbol, `${i.dataset}:${i.symbol}`, String(i.id), `${i.dataset}:${i.id}`]) bySymbol.set(key, i);
  const markets = new Map();
  const clients = new Set();
  const pipeline = new Pipeline();
  const mode = { refuse: 0, auth: false, silent: false, connects: 0 };

  function wake(i) {
    if (markets.has(i)) return markets.get(i);
    const recording = new Recording({ ...i }, i.session);
    const market = recording.market();
    const now = BigInt(Date.now()) * 1_000_000n;
    const past = BigInt(LIVE_PAST_S) * 1_000_000_000n;
    const perSecond = Math.min(i.rate, 120);
    const n = Math.round(perSecond * LIVE_PAST_S);
    for (let k = 0; k < n; k++) {
      const ts = now - past + (past * BigInt(k)) / BigInt(n);
      recording.times.push(ts);
      market.step(ts);
    }
    const entry = { instrument: i, recording, market, ring: [], owed: 0, at: performance.now() };
    markets.set(i, entry);
    return entry;
  }

  function days(i) {
    const session2 = { mid: i.mid + 40, seed: i.seed };
    i.days ??= [recordedDay({ ...i }, DAY_MS, 900, Math.min(i.rate, 120) * 0.7, 1),
      recordedDay({ ...i, ...session2 }, DAY_MS - 86_400_000, 600, Math.min(i.rate, 120) * 0.5, 2)];
    return i.days;
  }

  /** The recording that covers a time, the live one included. */
  function covering(i, ts, session) {
    const entry = markets.get(i);
    if (session) return [...days(i), entry?.recording].find((r) => r?.session === session) ?? null;
    if (entry && ts >= entry.recording.first) return entry.recording;
    return days(i).find((r) => r.first <= ts + 1_000_000_000n && ts <= r.last) ?? null;
  }

  const tick = setInterval(() => {
    const now = performance.now();
    for (const entry of markets.values()) {
      entry.owed = Math.min(entry.owed + ((now - entry.at) / 1000) * entry.instrument.rate * rate, entry.instrument.rate);
      entry.at = now;
      const events = [];
      const n = Math.floor(entry.owed);
      const base = BigInt(Date.now()) * 1_000_000n;
      for (let k = 0; k < n; k++) {
        entry.owed -= 1;
        if (Math.random() < 0.25 && entry.instrument.rate < 500) continue;
        const ts = base + BigInt(k);
        entry.recording.times.push(ts);
        events.push(entry.market.step(ts));
        fanOut(entry, events.at(-1));
      }
      if (events.length) entry.ring.push(...events);
      if (entry.ring.length > 20_000) entry.ring.splice(0, entry.ring.length - 20_000);
    }
    for (const client of clients) client.flush(now);
  }, 10);

  function fanOut(entry, event) {
    for (const client of clients) client.market(entry, event);
  }

  class Client {
    constructor(request, response, query) {
      this.response = response;
      this.out = [];
      const options = { depth: query.get("depth") === "all" ? 0 : Number(query.get("depth") ?? 10),
        interval: Number(query.get("interval") ?? 0), publisher: query.get("publisher") ? Number(query.get("publisher")) : null };
      const channels = (query.get("channels") ?? "bbo").split(",");
      this.entries = query.get("symbols").split(",").map((s) => wake(bySymbol.get(s)));
      this.views = new Map(this.entries.map((e) => [e, channels.map((c) => new View(c, e.instrument, options))]));
      const last = query.get("last_event_id") ?? request.headers["last-event-id"];
      this.hello(last);
      clients.add(this);
      request.on("close", () => clients.delete(this));
      this.quietSince = performance.now();
    }

    hello(last, only = null) {
      const known = new Map((last ?? "").split(";").filter(Boolean).map((x) => x.split("=")));
      const described = [];
      const first = [];
      for (const [entry, views] of this.views) {
        if (only && entry !== only) continue;
        const from = Number(known.get(`${entry.instrument.session}.${entry.instrument.id}`) ?? NaN);
        const ring = entry.ring;
        const covered = ring.length && from >= ring[0].end - ring[0].rows.length;
        for (const view of views) {
          const resumable = covered && (view.channel === "mbo" || view.channel === "trades");
          if (resumable) view.q = from;
          described.push(view.describe(Boolean(resumable)));
          if (resumable) {
            const ts = ring.at(-1).ts;
            for (const e of ring) if (e.end > from) first.push(...replayed(view, entry.market, e, ts));
          } else first.push(...view.first(entry.market, entry.recording.last));
        }
      }
      this.send("hello", { protocol: 1, gateway: "gw-fake", ts_gateway: String(Date.now() * 1e6), heartbeat_ms: 15000,
        expires: null, encoding: "rows", views: described });
      for (const [name, e] of first) this.send(name, e);
      this.heartbeat();
      this.flush(performance.now());
    }

    heartbeat() {
      const feeds = new Map();
      for (const e of this.entries) feeds.set(e.instrument.feed, { feed: e.instrument.feed, session: e.instrument.session,
        state: "open", age_ms: mode.silent ? 9000 : 8, stale: Boolean(e.instrument.override?.stale) });
      this.send("heartbeat", { ts_gateway: String(Date.now() * 1e6), feeds: [...feeds.values()] });
    }

    market(entry, event) {
      if (mode.silent) return;
      for (const view of this.views.get(entry) ?? []) for (const [name, e] of view.on(entry.market, event)) this.send(name, e);
    }

    status(entry) {
      for (const view of this.views.get(entry) ?? []) {
        const events = view.channel === "status" ? [view.status(entry.market, entry.recording.last)] : view.change(entry.market, entry.recording.last);
        for (const [name, e] of events) this.send(name, e);
      }
    }

    send(name, e) {
      this.out.push(`event: ${name}\ndata: ${JSON.stringify(e)}\n\n`);
    }

    flush(now) {
      for (const [entry, views] of this.views)
        for (const view of views)
          if (view.interval && now >= view.dueAt && !mode.silent) {
            view.dueAt = now + view.interval;
            for (const [name, e] of view.change(entry.market, entry.recording.last)) this.send(name, e);
          }
      if (!this.out.length) {
        if (now - this.quietSince > 15000) this.heartbeat();
        else return;
      }
      this.quietSince = now;
      const id = this.entries.map((e) => `${e.instrument.session}.${e.instrument.id}=${e.market.ordinal}`).join(";");
      this.response.write(this.out.join("") + `id: ${id}\n\n`);
      this.out = [];
    }

    bye(reason, detail, retry_ms) {
      this.send("bye", { reason, detail, retry_ms });
      this.flush(performance.now());
      clients.delete(this);
      this.response.end();
    }
  }

  function replayed(view, market, event) {
    if (view.channel === "trades") return view.on(market, event);
    const p = view.q;
    view.q = event.end;
    return [["mbo", { ...view.head(), session: view.instrument.session, p, q: event.end, n: event.rows.length, rows: event.rows,
      stamps: [String(event.ts), 0, 0, 0] }]];
  }

  const problem = (response, status, title, detail, parameter) => {
    response.writeHead(status, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ type: `urn:mbostream:problem:${title.toLowerCase().replaceAll(" ", "-")}`, title, status, detail, parameter }));
  };
  const json = (response, body) => {
    response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(body));
  };
  const nanos = (text) => (text === null ? null : /^\d+$/.test(text) ? BigInt(text) : BigInt(Date.parse(text)) * 1_000_000n);

  function replay(request, response, query) {
    const chosen = query.get("symbols").split(",").map((s) => bySymbol.get(s));
    if (chosen.some((i) => !i)) return problem(response, 404, "Unknown symbol", "see /v1/instruments", "symbols");
    const start = nanos(query.get("start"));
    const end = nanos(query.get("end")) ?? start + 60_000_000_000n;
    const session = query.get("session") ? Number(query.get("session")) : null;
    const depth = query.get("depth") === "all" ? 0 : Number(query.get("depth") ?? 10);
    const channels = (query.get("channels") ?? "bbo").split(",");
    const publisher = query.get("publisher") ? Number(query.get("publisher")) : null;
    const timeline = [];
    const views = [];
    for (const i of chosen) {
      const recording = covering(i, start, session);
      if (!recording) return problem(response, 404, "Nothing recorded", `nothing of ${i.symbol} is recorded at that time: see /v1/days`, "start");
      const plain = { ...i, override: null, session: recording.session };
      const mine = channels.map((c) => new View(c, plain, { depth, publisher }));
      views.push(...mine);
      recording.replay(start, end, (market) => {
        for (const v of mine) for (const e of v.first(market, start)) timeline.push([0n, e]);
      }, (market, event) => {
        for (const v of mine) for (const e of v.on(market, event)) timeline.push([event.ts, e]);
      });
    }
    timeline.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    const hello = { protocol: 1, gateway: "gw-fake", ts_gateway: String(Date.now() * 1e6), heartbeat_ms: 15000, expires: null,
      encoding: "rows", views: views.map((v) => ({ ...v.describe(false) })) };
    response.write(`event: hello\ndata: ${JSON.stringify(hello)}\n\n`);
    let block = "";
    for (const [, [name, e]] of timeline) {
      block += `event: ${name}\ndata: ${JSON.stringify(e)}\n\n`;
      if (block.length > 65536) { response.write(block); block = ""; }
    }
    response.end(block + `event: bye\ndata: ${JSON.stringify({ reason: "replayed", detail: "the window is complete", retry_ms: null,
      recorded: Object.fromEntries(views.map((v) => [v.describe(false).view, Number.MAX_SAFE_INTEGER])) })}\n\n`);
  }

  function rest(request, response, url) {
    const query = url.searchParams;
    const parts = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
    const instrument = parts[2] ? bySymbol.get(parts[2]) ?? bySymbol.get(parts[2].toUpperCase()) : null;
    if (parts[1] === "instruments") {
      const search = (query.get("search") ?? "").toLowerCase();
      const limit = Number(query.get("limit") ?? 1000);
      const from = Number(query.get("after") ?? 0);
      const all = instruments.filter((i) => i.symbol.toLowerCase().includes(search) && (!query.get("dataset") || i.dataset === query.get("dataset")));
      const rows = all.slice(from, from + limit).map((i) => answer(i, live.includes(i.symbol) ? BigInt(DAY_MS - 86_400_000) * 1_000_000n : null, live.includes(i.symbol) ? BigInt(DAY_MS + 900_000) * 1_000_000n : null));
      return json(response, { instruments: rows, total: all.length, next: from + limit < all.length ? String(from + limit) : null });
    }
    if (parts[1] === "pipeline") return json(response, pipeline.answer());
    if (parts[1] === "session") return mode.auth ? problem(response, 401, "Not logged in", "POST /v1/login with an API key") : json(response, { name: "local", auth: "none", symbols: ["*"], channels: ["*"], expires: null });
    if (parts[1] === "days") {
      const i = bySymbol.get(query.get("symbol") ?? "CLX5");
      const rows = days(i).map((r) => ({ date: new Date(Number(r.first / 1_000_000n)).toISOString().slice(0, 10), dataset: i.dataset, feed: i.feed,
        session: r.session, first: String(r.first), last: String(r.last), records: r.times.length * 2, trades: Math.round(r.times.length * 0.07), instruments: 9 }));
      return json(response, { days: rows });
    }
    if (["book", "orders", "history", "export"].includes(parts[1]) && !instrument)
      return problem(response, 404, "Unknown symbol", `no feed has ${parts[2]} now: see /v1/instruments`, "symbol");
    if (parts[1] === "book") {
      const at = nanos(query.get("at"));
      const entry = wake(instrument);
      const market = at ? covering(instrument, at, null)?.replay(at + 1n, at + 1n, () => {}, () => {}) : entry.market;
      if (!market) return problem(response, 404, "Nothing recorded", "nothing is recorded at that time: see /v1/days", "at");
      const head = { symbol: instrument.symbol, dataset: instrument.dataset, feed: instrument.feed, instrument_id: instrument.id, publisher_id: null,
        session: instrument.session, q: market.ordinal, ts_event: String(at ?? entry.recording.last), ts_recv: String(at ?? entry.recording.last) };
      if (query.get("level") === "3") return json(response, { ...head, level: 3, bids: market.queues("B"), asks: market.queues("A"), crossed: false, stale: false });
      const depth = query.get("depth") === "all" ? 0 : Number(query.get("depth") ?? 10);
      return json(response, { ...head, level: 2, depth, bids: market.side("B", depth), asks: market.side("A", depth), crossed: false,
        stale: Boolean(instrument.override?.stale), auction: instrument.override?.auction ?? null,
        venues: [{ publisher_id: 1, bid: market.top("B"), ask: market.top("A") }] });
    }
    if (parts[1] === "orders") {
      const market = wake(instrument).market;
      const order = market.orders.get(parts[3]);
      if (!order) return problem(response, 404, "Unknown order", `order ${parts[3]} is not in the book of ${instrument.symbol}: it is filled, cancelled or of another instrument`, "order_id");
      const queue = [...market.levels[order.side].get(order.px).values()];
      const index = queue.indexOf(order);
      return json(response, { symbol: instrument.symbol, dataset: instrument.dataset, feed: instrument.feed, instrument_id: instrument.id,
        publisher_id: 1, session: instrument.session, q: market.ordinal, order_id: order.id, side: order.side, price: market.price(order.px),
        size: order.size, ts_event: String(order.ts || 1n), index, ahead: queue.slice(0, index).reduce((s, o) => s + o.size, 0),
        level: market.level(order.side, order.px), stale: false });
    }
    if (parts[1] === "history") {
      const start = nanos(query.get("start")) ?? days(instrument)[0].first;
      const end = nanos(query.get("end")) ?? days(instrument)[0].last;
      const head = { symbol: instrument.symbol, dataset: instrument.dataset, feed: instrument.feed, instrument_id: instrument.id, start: String(start), end: String(end) };
      const recording = covering(instrument, start, null) ?? covering(instrument, end, null);
      if (parts[3] === "activity")
        return json(response, { ...head, ...(recording?.activity(start, end, Number(query.get("buckets") ?? 200)) ?? { bucket_ns: "1", rows: [] }) });
      return json(response, { ...head, rows: [], next: null });
    }
    if (parts[1] === "export") {
      response.writeHead(200, { "content-type": "text/csv", "content-disposition": `attachment; filename="${instrument.symbol}.csv"` });
      return response.end("ts_recv,price,size\n1758720600000000000,64.78,2\n");
    }
    return problem(response, 404, "Not found", "see /docs");
  }

  async function body(request) {
    let text = "";
    for await (const chunk of request) text += chunk;
    return text ? JSON.parse(text) : {};
  }

  async function fake(request, response, url) {
    const what = url.pathname.split("/")[2];
    const args = Object.fromEntries(url.searchParams);
    const i = args.symbol ? bySymbol.get(args.symbol) : null;
    const set = (override) => {
      i.override = override;
      for (const c of clients) c.status(wake(i));
    };
    if (what === "auction") {
      const top = wake(i).market.top("B");
      set({ auction: { price: top[0], size: 348 } });
    } else if (what === "crossed") set({ crossed: true });
    else if (what === "stale") set({ stale: true, state: "stale", reason: "records 812,345 to 812,401 were lost" });
    else if (what === "gap") set({ stale: true, state: "gap", reason: "57 records were lost: stale until a snapshot" });
    else if (what === "halt") set({ state: "halt", reason: "volatility" });
    else if (what === "calm") set(null);
    else if (what === "bye") for (const c of [...clients]) c.bye(args.reason, args.detail ?? "told to by the test", args.retry === "null" ? null : Number(args.retry ?? 300));
    else if (what === "drop") for (const c of [...clients]) c.response.destroy();
    else if (what === "refuse") { mode.refuse = Date.now() + Number(args.ms ?? 2000); for (const c of [...clients]) c.response.destroy(); }
    else if (what === "auth") mode.auth = args.on === "1";
    else if (what === "silent") mode.silent = args.on === "1";
    else if (what === "skip") {
      for (const c of clients) for (const vs of c.views.values()) for (const v of vs) v.q += v.channel === "book" ? 1 : 0;
    } else if (what === "session") {
      const entry = wake(i);
      i.session += 1;
      entry.market = entry.recording.market();
      entry.recording = new Recording({ ...i }, i.session);
      entry.ring = [];
      for (const c of clients) if (c.views.has(entry)) c.hello(null, entry);
    } else if (what === "kill") pipeline.kill(args.worker ?? "book-4712");
    else if (what === "rate") i.rate = Number(args.rate);
    else return problem(response, 404, "Not found", what);
    return json(response, { ok: true, clients: clients.size, connects: mode.connects });
  }

  async function file(response, path) {
    const name = path === "/" ? "/index.html" : normalize(path).replace(/^(\.\.[/\\])+/, "");
    try {
      const content = await readFile(join(STATIC, name.replace(/^\/static\//, "/")));
      response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream",
        "content-security-policy": CSP, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache" });
      response.end(content);
    } catch {
      problem(response, 404, "Not found", `no file ${name}`);
    }
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://fake");
    if (url.pathname.startsWith("/fake/")) return fake(request, response, url);
    if (mode.refuse > Date.now() && url.pathname.startsWith("/v1/")) return request.socket.destroy();
    if (url.pathname === "/v1/login" && request.method === "POST") {
      const { key } = await body(request);
      if (key !== "letmein") return problem(response, 401, "Wrong key", "this API key is unknown or expired: make one with `mbo keys`");
      mode.auth = false;
      return json(response, { name: "desk", auth: "cookie", symbols: ["*"], channels: ["*"], expires: null });
    }
    if (mode.auth && url.pathname.startsWith("/v1/")) return problem(response, 401, "Not logged in", "log in with an API key");
    if (url.pathname === "/v1/stream") {
      mode.connects++;
      const unknown = (url.searchParams.get("symbols") ?? "").split(",").find((s) => !bySymbol.has(s));
      if (unknown !== undefined) return problem(response, 404, "Unknown symbol", `no feed has ${unknown} now: see /v1/instruments`, "symbols");
      response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
      return new Client(request, response, url.searchParams);
    }
    if (url.pathname === "/v1/replay") return replay(request, response, url.searchParams);
    if (url.pathname.startsWith("/v1/")) return rest(request, response, url);
    return file(response, url.pathname);
  });
  for (const symbol of live.slice(0, 5)) wake(bySymbol.get(symbol));
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve({
    url: `http://127.0.0.1:${server.address().port}`,
    async close() {
      clearInterval(tick);
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  })));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const option = (name, fallback) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? fallback : Number(process.argv[at + 1]);
  };
  const { url } = await startFake({ port: option("port", 8090), rate: option("rate", 1) });
  process.stdout.write(`fake gateway on ${url}\n`);
}
