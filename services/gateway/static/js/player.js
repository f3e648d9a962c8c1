import { apiUrl } from "./api.js";
import { draws } from "./frame.js";
import { Instrument } from "./instrument.js";
import { ReplayWindow, after } from "./replay_window.js";
import { HttpProblem } from "./sse.js";
import { matches, tabKey } from "./tabs_key.js";
import { Views } from "./views.js";

/**
 * The replay source: recorded data through the same Views and Instruments as live, by market time. It reads
 * /v1/replay?speed=max window by window ahead of the playhead and applies events when their ts_recv is due, so pause, step,
 * any speed and seeking are its own business. Seeking starts some time before the target, so that the charts have a past.
 */
const NS = 1_000_000n;
const BUDGET_MS = 9;
const WINDOW_EVENTS = 6000;
const PAST = 60_000;
export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 100, "max"];

export class Player {
  constructor(app) {
    this.app = app;
    this.instruments = new Map();
    this.views = new Views({ find: (v) => this.find(v), lost: () => {} });
    this.range = null;
    this.active = false;
    this.clear();
    draws(this);
  }

  clear() {
    this.queue = [];
    this.at = 0;
    this.past = [];
    this.whole = true;
    this.window = null;
    this.nextStart = null;
    this.spanNs = 4_000_000_000n;
    this.loading = false;
    this.ended = false;
    this.error = "";
    this.target = null;
  }

  get playing() {
    return this.app.state.get("replay").playing;
  }

  get speed() {
    return this.app.state.get("replay").speed;
  }

  /** Playhead in ms, and in ns as text for links. */
  get ms() {
    return this.head ?? (this.range ? Number(this.range.first) / 1e6 : 0);
  }

  get ns() {
    return this.headNs ?? this.app.state.get("replay").t;
  }

  instrument(tab) {
    const key = tabKey(tab);
    let i = this.instruments.get(key);
    if (!i) {
      i = new Instrument(tab.spec);
      this.instruments.set(key, i);
      this.app.catalogue.describe(tab.spec, i);
    }
    return i;
  }

  marketNow() {
    return this.ms;
  }

  find(v) {
    const tab = this.app.state.get("tabs").find((t) => matches(t, v));
    return tab ? this.instrument(tab) : null;
  }

  start() {
    this.active = true;
    this.seek(this.app.state.get("replay").t);
  }

  stop() {
    this.active = false;
    this.window?.abort();
    this.clear();
    this.instruments.clear();
    this.views.clear();
    this.set({ playing: false });
  }

  set(patch) {
    this.app.state.set({ replay: { ...this.app.state.get("replay"), ...patch } });
  }

  /** Time before a target that is replayed to get there: about 20,000 records, 10 s to 2 min. */
  lookback(t) {
    const rate = this.range?.perSecond ?? 100;
    const seconds = Math.min(120, Math.max(10, 20_000 / Math.max(1, rate)));
    const ns = BigInt(Math.round(seconds * 1e9));
    return this.range && t - ns < this.range.first ? this.range.first : t - ns;
  }

  /** Shows the book as it was at `t` (ns as text or BigInt). */
  seek(t, { keepPlaying = this.playing } = {}) {
    if (t === null || t === undefined) return;
    let ns = BigInt(t);
    if (this.range) {
      if (ns < this.range.first) ns = this.range.first;
      if (ns > this.range.last) ns = this.range.last;
    }
    this.window?.abort();
    this.clear();
    for (const i of this.instruments.values()) i.reset();
    this.views.clear();
    this.target = Number(ns / NS) + Number(ns % NS) / 1e6;
    this.head = this.target;
    this.headNs = String(ns);
    this.loading = true;
    this.set({ t: String(ns), playing: keepPlaying });
    this.load(this.lookback(ns), ns + 1n);
    this.app.emit("seek");
  }

  get symbols() {
    const tabs = this.app.state.get("tabs");
    const active = this.app.state.activeTab;
    const same = tabs.filter((t) => t.publisher === active.publisher);
    return { all: [...new Set(same.map((t) => t.spec))].join(","), one: active.spec, publisher: active.publisher };
  }

  load(start, least = null, alone = this.alone) {
    const { all, one, publisher } = this.symbols;
    let end = start + this.spanNs;
    if (least !== null && end < least) end = least + this.spanNs;
    this.alone = alone;
    this.nextStart = end;
    const session = this.app.state.get("replay").session;
    const url = apiUrl("replay", { symbols: alone ? one : all, channels: "book,trades,mbo,status", depth: this.app.state.get("depth"), publisher, session,
      start: String(start), end: String(end), speed: "max" });
    const window = new ReplayWindow(url, this.queue);
    this.window = window;
    window.read().then(() => this.loaded(window, end - start), (error) => this.failed(window, error, start, least, alone));
  }

  loaded(window, span) {
    if (this.window !== window) return;
    this.window = null;
    const factor = window.count ? Math.min(4, Math.max(0.25, WINDOW_EVENTS / window.count)) : 4;
    const next = BigInt(Math.round(Number(span) * factor));
    this.spanNs = next < 500_000_000n ? 500_000_000n : next > 900_000_000_000n ? 900_000_000_000n : next;
  }

  failed(window, error, start, least, alone) {
    if (this.window !== window || error.name === "AbortError") return;
    this.window = null;
    if (error instanceof HttpProblem && error.status === 404 && !alone && this.symbols.all !== this.symbols.one) {
      this.load(start, least, true);
      return;
    }
    this.loading = false;
    this.error = error instanceof HttpProblem ? error.message : "the gateway cannot be reached; seek or press play to try again";
    this.set({ playing: false });
    this.app.emit("connection", { phase: "closed", reason: "replay", detail: this.error });
  }

  toggle() {
    if (!this.playing && (this.ended || this.error)) this.seek(this.ended && this.range ? this.range.first : this.ns, { keepPlaying: true });
    this.lastFrame = null;
    this.set({ playing: !this.playing || this.loading && this.target !== null && !this.playing, t: this.ns });
  }

  setSpeed(speed) {
    this.set({ speed });
  }

  faster(by) {
    const at = SPEEDS.indexOf(this.speed);
    this.setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, (at < 0 ? 3 : at) + by))]);
  }

  frame(now) {
    if (!this.active) return;
    const elapsed = this.lastFrame ? Math.min(250, now - this.lastFrame) : 0;
    this.lastFrame = now;
    if (this.target !== null) this.approach();
    else if (this.playing) this.advance(elapsed);
    this.fetchAhead();
    if (this.at > 20_000) {
      this.queue.splice(0, this.at);
      this.at = 0;
    }
  }

  /** After a seek: apply what lies before the target, a slice a frame. */
  approach() {
    const done = this.applyUntil(this.target, this.headNs);
    if (!done || (this.at >= this.queue.length && this.window)) return;
    this.head = this.target;
    this.target = null;
    this.loading = false;
    this.app.emit("seek");
  }

  advance(elapsed) {
    const to = this.speed === "max" ? Infinity : this.head + elapsed * this.speed;
    const done = this.applyUntil(to);
    const last = this.at ? this.queue[this.at - 1] : null;
    if (done && to !== Infinity && this.at < this.queue.length) this.head = to;
    else if (done && to !== Infinity && !this.window && this.nextMs > to) this.head = to;
    else if (last) this.head = Math.max(this.head, last.ms);
    this.headNs = String(BigInt(Math.round(this.head * 1000)) * 1000n);
    if (this.at >= this.queue.length && this.finished) {
      this.ended = true;
      this.set({ playing: false, t: this.ns });
    }
  }

  get nextMs() {
    return this.nextStart === null ? 0 : Number(this.nextStart) / 1e6;
  }

  get finished() {
    return !this.window && this.range !== null && this.nextStart !== null && this.nextStart > this.range.last;
  }

  /** Applies queued events up to `ms`, or to `ns` exactly; false when the frame's budget ended first. */
  applyUntil(ms, ns = null) {
    const until = performance.now() + BUDGET_MS;
    const due = (item) => (ns === null ? item.ms <= ms : !after(item.ns, ns));
    while (this.at < this.queue.length && due(this.queue[this.at])) {
      this.apply(this.queue[this.at++]);
      if ((this.at & 31) === 0 && performance.now() > until) return false;
    }
    return true;
  }

  apply(item) {
    this.views.apply(item.event, item.e);
    this.past.push(item);
    if (this.past.length > PAST * 1.5) {
      this.past.splice(0, this.past.length - PAST);
      this.whole = false;
    }
  }

  fetchAhead() {
    if (this.window || this.nextStart === null || this.error || this.finished) return;
    if (this.queue.length - this.at < WINDOW_EVENTS / 2) this.load(this.nextStart);
  }

  /** One event: everything of the next market time that has any. */
  step() {
    if (this.target !== null) return;
    this.set({ playing: false });
    while (this.at < this.queue.length && !this.queue[this.at].step) this.apply(this.queue[this.at++]);
    if (this.at >= this.queue.length) return;
    const { ns, ms } = this.queue[this.at];
    while (this.at < this.queue.length && (this.queue[this.at].ns === ns || !this.queue[this.at].step)) this.apply(this.queue[this.at++]);
    this.head = ms;
    this.headNs = ns;
    this.set({ t: ns });
  }

  /** One event back: rebuilt from what was applied since the last seek, or read again. */
  stepBack() {
    if (this.target !== null) return;
    this.set({ playing: false });
    let k = this.past.length - 1;
    while (k >= 0 && !this.past[k].step) k--;
    if (k < 0) return;
    const { ns } = this.past[k];
    while (k >= 0 && (!this.past[k].step || this.past[k].ns === ns)) k--;
    if (k < 0 || !this.whole || k > 15_000) {
      this.seek(BigInt(ns) - 1n, { keepPlaying: false });
      return;
    }
    const keep = this.past.slice(0, k + 1);
    const undone = this.past.slice(k + 1);
    this.queue = [...undone, ...this.queue.slice(this.at)];
    if (this.window) this.window.queue = this.queue;
    this.at = 0;
    this.past = [];
    for (const i of this.instruments.values()) i.reset();
    this.views.clear();
    for (const item of keep) this.apply(item);
    this.head = keep[k].ms;
    this.headNs = keep[k].ns;
    this.set({ t: this.headNs });
  }
}
