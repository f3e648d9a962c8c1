import { apiUrl } from "./api.js";
import { draws } from "./frame.js";
import { Instrument } from "./instrument.js";
import { PAST_NS, prepend, recent } from "./prefill.js";
import { ReplayQueue } from "./replay_queue.js";
import { ReplayWindow } from "./replay_window.js";
import { HttpProblem } from "./sse.js";
import { keepOpen, matches, tabKey } from "./tabs_key.js";
import { Views } from "./views.js";

/**
 * The replay source: recorded data through the same Views and Instruments as live, by market time. It reads
 * /v1/replay?speed=max window by window ahead of the playhead and applies events when their ts_recv is due, so pause, step,
 * any speed and seeking are its own business. Seeking starts a little before the target, so that one can step back; the charts'
 * past comes after, so that the book need not wait for it.
 */
const NS = 1_000_000n;
const WINDOW_EVENTS = 6000;
const SETTLE_MS = 150; // a seek while another is read waits so long: a held arrow key is one request, not thirty
export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 100, "max"];

export class Player {
  constructor(app) {
    this.app = app;
    this.instruments = new Map();
    this.views = new Views({ find: (v) => this.find(v), lost: () => {} });
    this.pasts = new Map();
    this.range = null;
    this.active = false;
    this.clear();
    draws(this);
  }

  clear() {
    this.queue = new ReplayQueue((item) => this.views.apply(item.event, item.e));
    this.owed = 0;
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
    this.pasts.clear();
    this.views.clear();
    this.set({ playing: false });
  }

  set(patch) {
    this.app.state.set({ replay: { ...this.app.state.get("replay"), ...patch } });
  }

  /** Other instruments are open, or one of another venue is active: reads what is not being read. */
  follow() {
    keepOpen(this.instruments, this.app.state.get("tabs"));
    if (this.active && this.asked !== this.asking(this.alone)) this.seek(this.ns);
  }

  asking(alone) {
    const { all, one, publisher } = this.symbols;
    return `${alone ? one : all}@${publisher}`;
  }

  /** Where reading begins to get to a time: some 2,000 records before it, 1 s to 2 min. */
  lookback(t) {
    const seconds = Math.min(120, Math.max(1, 2000 / Math.max(1, this.range?.perSecond ?? 100)));
    const start = t - BigInt(Math.round(seconds * 1e9));
    return this.range && start < this.range.first ? this.range.first : start;
  }

  /** Shows the book as it was at `t` (ns as text or BigInt). */
  seek(t, { keepPlaying = this.playing } = {}) {
    if (t === null || t === undefined) return;
    let ns = BigInt(t);
    if (this.range) {
      if (ns < this.range.first) ns = this.range.first;
      if (ns > this.range.last) ns = this.range.last;
    }
    const pause = this.window ? SETTLE_MS : 0;
    this.window?.abort();
    this.clear();
    this.empty();
    this.pasts.clear();
    this.target = Number(ns / NS) + Number(ns % NS) / 1e6;
    this.head = this.target;
    this.headNs = String(ns);
    this.loading = true;
    this.set({ t: String(ns), playing: keepPlaying });
    this.from = this.lookback(ns);
    this.load(this.from, ns + 1n, { pause });
    this.app.emit("seek");
  }

  get symbols() {
    const tabs = this.app.state.get("tabs");
    const active = this.app.state.activeTab;
    const same = tabs.filter((t) => t.publisher === active.publisher);
    return { all: [...new Set(same.map((t) => t.spec))].join(","), one: active.spec, publisher: active.publisher };
  }

  load(start, least = null, { alone = this.alone, pause = 0 } = {}) {
    const { all, one, publisher } = this.symbols;
    let end = start + this.spanNs;
    if (least !== null && end < least) end = least + this.spanNs;
    this.alone = alone;
    this.asked = this.asking(alone);
    this.nextStart = end;
    const session = this.app.state.get("replay").session;
    const url = apiUrl("replay", { symbols: alone ? one : all, channels: "book,trades,mbo,status", depth: this.app.state.get("depth"), publisher, session,
      start: String(start), end: String(end), speed: "max" });
    const window = new ReplayWindow(url, this.queue.items, pause);
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
      this.load(start, least, { alone: true });
      return;
    }
    this.loading = false;
    this.error = error instanceof HttpProblem ? error.message : "the gateway cannot be reached; seek or press play to try again";
    this.set({ playing: false });
    this.app.emit("connection", { phase: "closed", reason: "replay", detail: this.error });
  }

  toggle() {
    const playing = !this.playing;
    if (playing && (this.ended || this.error)) {
      this.seek(this.ended && this.range ? this.range.first : this.ns, { keepPlaying: true });
      return;
    }
    this.lastFrame = null;
    this.owed = 0;
    this.set({ playing, t: this.ns });
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
    else while (this.owed && (this.stepNow() || this.finished)) this.owed--;
    if (!this.window && this.nextStart !== null && !this.error && !this.finished && this.queue.left < WINDOW_EVENTS / 2) this.load(this.nextStart);
  }

  /** After a seek: apply what lies before the target, a slice a frame. */
  approach() {
    const done = this.queue.until(this.target, this.headNs);
    if (!done || (!this.queue.left && this.window)) return;
    this.head = this.target;
    this.target = null;
    this.loading = false;
    for (const tab of this.app.state.get("tabs")) this.fill(tab);
    this.app.emit("seek");
  }

  /** The past of an instrument's chart before what was read to get here. */
  async fill(tab) {
    const i = this.instrument(tab);
    const { queue, from, range } = this;
    if (i.session === null || (range && from <= range.first) || this.head - Number(from) / 1e6 > Number(PAST_NS / NS) - 1000) return;
    const past = await recent(i, tab, from);
    if (!past || this.queue !== queue) return;
    this.pasts.set(i, past);
    prepend(i, past);
  }

  empty() {
    for (const i of this.instruments.values()) i.reset();
    this.views.clear();
  }

  advance(elapsed) {
    const to = this.speed === "max" ? Infinity : this.head + elapsed * this.speed;
    const done = this.queue.until(to);
    const { left, last } = this.queue;
    if (done && to !== Infinity && (left || (!this.window && this.nextMs > to))) this.head = to;
    else if (last) this.head = Math.max(this.head, last.ms);
    this.headNs = String(BigInt(Math.round(this.head * 1000)) * 1000n);
    if (!left && this.finished) {
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

  /** One event on: everything of the next market time that has any, as soon as it is read. */
  step() {
    if (this.target !== null) return;
    this.set({ playing: false });
    if (!this.stepNow() && !this.finished) this.owed++;
  }

  stepNow() {
    const item = this.queue.step(this.window !== null);
    if (item) this.stand(item);
    return item !== null;
  }

  /** One event back: rebuilt from what was applied since the last seek, or read again. */
  stepBack() {
    if (this.target !== null) return;
    this.set({ playing: false });
    const to = this.queue.back(() => this.empty());
    if (to?.item) {
      for (const [i, past] of this.pasts) prepend(i, past);
      this.stand(to.item);
    }
    else if (to) this.seek(BigInt(to.before) - 1n, { keepPlaying: false });
  }

  stand({ ms, ns }) {
    this.head = ms;
    this.headNs = ns;
    this.set({ t: ns });
  }
}
