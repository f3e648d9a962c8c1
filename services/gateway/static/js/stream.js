import { HttpProblem, SseParser, readSse } from "./sse.js";

/**
 * One live subscription that stays up: connects, resumes by the last id, waits as `bye` or a back-off says, and tells its
 * state: {phase: connecting | open | waiting | closed, reason, detail, retryAt, attempt}. It never reloads the page.
 */
const FINAL = new Set(["ended", "expired", "revoked", "replayed"]);
const QUIET_LIMIT_MS = 40_000;
const BACKOFF_MS = [300, 700, 1500, 3000, 5000, 8000];

export class Stream {
  constructor({ url, onEvent, onState, lastId = null }) {
    Object.assign(this, { url, onEvent, onState, lastId });
    this.attempt = 0;
    this.bye = null;
    this.bytes = 0;
    this.lastByteAt = 0;
    this.closed = false;
    this.paused = false;
    this.timer = null;
  }

  start() {
    this.run();
    this.watchdog = setInterval(() => {
      if (this.abort && performance.now() - this.lastByteAt > QUIET_LIMIT_MS) this.abort.abort();
    }, 2000);
    return this;
  }

  stop() {
    this.closed = true;
    clearTimeout(this.timer);
    clearInterval(this.watchdog);
    this.abort?.abort();
  }

  /** Give the connection back; `resume` goes on from the last id. */
  pause() {
    this.paused = true;
    clearTimeout(this.timer);
    this.abort?.abort();
  }

  resume() {
    this.paused = false;
    if (!this.abort && this.phase !== "closed") this.run();
  }

  /** Forget the position: the next connection starts from snapshots. */
  restart({ fresh = false } = {}) {
    if (fresh) this.lastId = null;
    clearTimeout(this.timer);
    if (this.abort) this.abort.abort();
    else this.run();
  }

  tell(phase, more = {}) {
    this.phase = phase;
    this.onState({ phase, reason: null, detail: "", retryAt: null, attempt: this.attempt, ...more });
  }

  async run() {
    if (this.closed || this.paused) return;
    this.tell("connecting");
    this.bye = null;
    this.abort = new AbortController();
    this.lastByteAt = performance.now();
    const parser = new SseParser((event, e) => {
      if (event === "bye") this.bye = e;
      this.onEvent(event, e);
    });
    let error = null;
    try {
      await readSse(this.url(this.lastId), {
        signal: this.abort.signal,
        parser,
        onOpen: () => this.tell("open"),
        onChunk: (n) => {
          this.bytes += n;
          this.lastByteAt = performance.now();
          if (parser.lastId !== null) {
            this.lastId = parser.lastId;
            this.attempt = 0;
          }
        },
      });
    } catch (caught) {
      error = caught;
    }
    this.abort = null;
    if (!this.closed && !this.paused) this.after(error, parser.retry);
  }

  after(error, retry) {
    if (error instanceof HttpProblem && error.status >= 400 && error.status < 500 && error.status !== 429) {
      this.tell("closed", { reason: `http-${error.status}`, detail: error.message });
      return;
    }
    if (this.bye && (FINAL.has(this.bye.reason) || this.bye.retry_ms === null)) {
      this.tell("closed", { reason: this.bye.reason, detail: this.bye.detail });
      return;
    }
    const backoff = BACKOFF_MS[Math.min(this.attempt, BACKOFF_MS.length - 1)] * (0.8 + Math.random() * 0.4);
    const wait = Math.max(this.bye?.retry_ms ?? 0, this.bye ? 0 : backoff, this.bye ? 0 : retry ?? 0);
    this.attempt++;
    this.tell("waiting", {
      reason: this.bye?.reason ?? (error ? "lost" : "closed"),
      detail: this.bye?.detail ?? "the connection to the gateway is gone; trying again",
      retryAt: performance.now() + wait,
    });
    this.timer = setTimeout(() => this.run(), wait);
  }
}
