import { apiUrl } from "./api.js";
import { Instrument } from "./instrument.js";
import { Stream } from "./stream.js";
import { notice } from "./notice.js";
import { prepend, recentOfLive } from "./prefill.js";
import { keepOpen, matches, tabKey } from "./tabs_key.js";
import { Views } from "./views.js";

/**
 * The live source: one stream for all open instruments (one more for each venue picked with @publisher, since a browser
 * allows six connections a host), kept up by Stream, folded by Views. Instruments outlive reconnects.
 */
const RESYNC_MS = 4000;
const NEAR_MS = 3000;
const REST_MS = 30_000; // hidden so long, the page gives its connections back: the browser's seventh page would wait for ever
const FORGET_MS = 600_000; // hidden so long, it begins anew: an hour of trades is not worth catching up with

export class LiveSource {
  constructor(app) {
    this.app = app;
    this.instruments = new Map();
    this.groups = new Map();
    this.feeds = new Map();
    this.connection = { phase: "connecting", reason: null, detail: "", retryAt: null, attempt: 0 };
    this.dropped = 0;
    this.slowAt = -Infinity;
    this.heartbeatAt = 0;
    this.clockOffset = null;
    this.active = false;
    this.restMs = REST_MS;
    this.restedAt = null;
    document.addEventListener("visibilitychange", () => this.seen());
    this.seen();
  }

  seen() {
    clearTimeout(this.resting);
    if (document.hidden) this.resting = setTimeout(() => this.rest(), this.restMs);
    else if (this.restedAt !== null) this.wake();
  }

  rest() {
    this.restedAt = Date.now();
    for (const group of this.groups.values()) group.stream.pause();
    for (const i of this.instruments.values()) i.broke();
  }

  wake() {
    const forget = this.active && Date.now() - this.restedAt > FORGET_MS;
    this.restedAt = null;
    if (forget) {
      this.stop();
      this.instruments.clear();
      this.start();
    } else for (const group of this.groups.values()) group.stream.resume();
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

  start() {
    this.active = true;
    this.sync();
    this.retryNow();
  }

  stop() {
    this.active = false;
    for (const group of this.groups.values()) group.stream.stop();
    this.groups.clear();
    for (const i of this.instruments.values()) i.broke();
  }

  get channels() {
    const { state } = this.app;
    const l3 = state.get("queues") || state.get("flow");
    return l3 ? "book,trades,mbo,status" : "book,trades,status";
  }

  /** Makes the streams fit the open tabs; a stream whose subscription is unchanged is left alone. */
  sync() {
    if (!this.active) return;
    const wanted = new Map();
    for (const tab of this.app.state.get("tabs")) {
      const publisher = tab.publisher ?? null;
      if (!wanted.has(publisher)) wanted.set(publisher, new Set());
      wanted.get(publisher).add(tab.spec);
    }
    keepOpen(this.instruments, this.app.state.get("tabs"));
    for (const [publisher, group] of [...this.groups])
      if (!wanted.has(publisher)) {
        group.stream.stop();
        this.groups.delete(publisher);
      }
    for (const [publisher, specs] of wanted) this.ensure(publisher, [...specs].join(","));
  }

  ensure(publisher, symbols) {
    const depth = this.app.state.get("depth");
    const wants = `${symbols}|${this.channels}|${depth}`;
    const old = this.groups.get(publisher);
    if (old?.wants === wants) return;
    old?.stream.stop();
    const query = { symbols, channels: this.channels, depth, publisher };
    const views = new Views({ find: (v) => this.find(v), lost: (view) => this.lost(publisher, view) });
    const stream = new Stream({
      url: (id) => apiUrl("stream", { ...query, last_event_id: id }),
      onEvent: (event, e) => this.event(views, event, e),
      onState: (state) => this.state(publisher, state),
    });
    this.groups.set(publisher, { stream, views, wants, state: null });
    stream.start();
  }

  find(v) {
    const tab = this.app.state.get("tabs").find((t) => matches(t, v));
    return tab ? this.instrument(tab) : null;
  }

  event(views, event, e) {
    if (event === "heartbeat" || event === "hello") {
      this.heartbeatAt = performance.now();
      this.clockOffset = Number(e.ts_gateway) / 1e6 - performance.now();
      for (const feed of e.feeds ?? []) this.feeds.set(feed.feed, feed);
    }
    if (event === "bye" && e.reason === "slow") this.slowAt = performance.now();
    const i = views.apply(event, e);
    if (i && !i.filled && event === "snapshot" && e.channel === "book") this.fill(i);
  }

  /** Once per instrument: its recent past, after the first snapshot told where the market is. */
  async fill(i) {
    i.filled = true;
    const tab = this.app.state.get("tabs").find((t) => this.instruments.get(tabKey(t)) === i);
    const past = tab && (await recentOfLive(i, tab));
    if (past) prepend(i, past);
  }

  lost(publisher, view) {
    this.dropped++;
    view.instrument.broke();
    const group = this.groups.get(publisher);
    setTimeout(() => {
      if (view.waiting && this.groups.get(publisher) === group) group.stream.restart({ fresh: true });
    }, RESYNC_MS);
  }

  state(publisher, state) {
    const group = this.groups.get(publisher);
    if (group) group.state = state;
    const rank = ["open", "connecting", "waiting", "closed"];
    const all = [...this.groups.values()].map((g) => g.state).filter(Boolean);
    if (state.phase === "waiting" || state.phase === "closed") for (const i of this.instruments.values()) i.broke();
    this.connection = all.reduce((worst, s) => (rank.indexOf(s.phase) > rank.indexOf(worst.phase) ? s : worst), all[0] ?? state);
    this.app.emit("connection", this.connection);
    if (state.reason === "http-404") this.prune();
  }

  /** One unknown symbol fails the whole stream (a saved layout of yesterday, say): close it and go on with the rest. */
  async prune() {
    const { state, catalogue } = this.app;
    const tabs = state.get("tabs");
    const gone = await catalogue.missing(tabs.map((t) => t.spec)).catch(() => []);
    if (!gone.length || state.get("tabs") !== tabs) return;
    notice(`${gone.join(", ")}: no feed has it now; closed. Press / to find another.`, { kind: "bad", key: "gone" });
    const left = tabs.filter((t) => !gone.includes(t.spec));
    if (left.length) state.set({ tabs: left, active: 0 });
    else this.app.openFirst();
  }

  retryNow() {
    for (const group of this.groups.values()) if (["waiting", "closed"].includes(group.state?.phase)) group.stream.restart();
  }

  /** Views dropped and not yet mended by a snapshot. */
  get resyncing() {
    return [...this.groups.values()].some((g) => [...g.views.views.values()].some((v) => v.waiting));
  }

  /** Market time now, ms: the gateway's clock while the data is of now, else (a file, a quiet source) its newest time. */
  marketNow(i) {
    const server = this.serverNow;
    if (server === null || this.connection.phase !== "open") return i.ms;
    if (i.ms && Math.abs(server - i.ms) < NEAR_MS) i.ofNow = true;
    return i.ofNow && server - i.ms < 3_600_000 ? Math.max(i.ms, server) : i.ms;
  }

  /** The gateway's wall clock now, ms; null before its first heartbeat. */
  get serverNow() {
    return this.clockOffset === null ? null : performance.now() + this.clockOffset;
  }
}
