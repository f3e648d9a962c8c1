import { recall } from "./recall.js";
import { SseParser, readSse } from "./sse.js";

/** One stretch of recorded data being read into a queue of {ms, ns, event, e, step}; waits while the queue is long. */
const MOST = 60_000;
const POLL_MS = 30;

/** Is nanosecond text a later than b? Exact: as Numbers, times less than 256 ns apart are one. */
export function after(a, b) {
  return a.length === b.length ? a > b : a.length > b.length;
}

export class ReplayWindow {
  /** Reading begins after `waitMs`, unless it is aborted before. */
  constructor(url, queue, waitMs = 0) {
    Object.assign(this, { url, queue, waitMs });
    this.controller = new AbortController();
    this.count = 0;
    this.ms = 0;
    this.ns = "0";
    this.bye = null;
  }

  abort() {
    this.controller.abort();
  }

  async read() {
    const parser = new SseParser((event, e) => this.take(event, e));
    const { signal } = this.controller;
    if (this.waitMs) await new Promise((done) => setTimeout(done, this.waitMs));
    await recall(() => readSse(this.url, { signal, parser, onChunk: () => (this.queue.length > MOST ? this.room() : null) }), { signal });
    if (this.bye && this.bye.reason !== "replayed") throw new Error(this.bye.detail);
  }

  take(event, e) {
    if (event === "bye") {
      this.bye = e;
      return;
    }
    if (event === "heartbeat") return;
    const ns = event === "mbo" ? e.rows.at(-1)?.[8] : event === "snapshot" || event === "hello" ? null : e.ts_recv ?? e.ts;
    if (ns && after(ns, this.ns)) {
      this.ns = ns;
      this.ms = Number(ns) / 1e6;
    }
    const step = event === "delta" || event === "trade" || event === "mbo";
    if (step) this.count++;
    this.queue.push({ ms: this.ms, ns: this.ns, event, e, step });
  }

  async room() {
    while (this.queue.length > MOST && !this.controller.signal.aborted) await new Promise((done) => setTimeout(done, POLL_MS));
  }
}
