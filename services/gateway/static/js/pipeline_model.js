import { PipelineEvents } from "./pipeline_events.js";

/** What the pipeline view shows: answers of /v1/pipeline, and from two of them rates; positions of what flows. */
const HISTORY = 120; // a minute
const HUES = [205, 42, 285, 165, 330, 95, 245, 15];

const sum = (rows, of) => rows.reduce((total, row) => total + of(row), 0);

export class PipelineModel {
  constructor() {
    this.feeds = [];
    this.processes = [];
    this.before = new Map();
    this.hues = new Map();
    this.lanes = new Map();
    this.events = new PipelineEvents();
    this.stale = false;
  }

  color(owner, light = document.documentElement.dataset.theme === "light") {
    if (!this.hues.has(owner)) this.hues.set(owner, HUES[this.hues.size % HUES.length]);
    return `hsl(${this.hues.get(owner)} ${light ? 62 : 58}% ${light ? 38 : 64}%)`;
  }

  lost() {
    this.stale = true;
  }

  take(answer, now) {
    this.stale = false;
    if (answer.ts_gateway === this.stamp) return; // the gateway has not asked the broker again: no rates from that
    const since = this.stamp ? Number(BigInt(answer.ts_gateway) - BigInt(this.stamp)) / 1e9 : 0;
    const seconds = since > 0 ? since : null; // another gateway's look may be older
    this.stamp = answer.ts_gateway;
    this.at = now;
    const ownerOf = (p) => p.detail?.worker ?? p.id; // a worker may hold shards under a name of its own
    for (const p of answer.processes) if (p.role === "book") this.color(ownerOf(p));
    this.feeds = answer.feeds.map((feed) => {
      const shards = [...feed.shards].sort((a, b) => a.shard - b.shard).map((s) => this.shard(feed, s, seconds));
      return { ...feed, shards, rate: shards.reduce((sum, s) => sum + s.rate, 0) };
    });
    const all = this.feeds.flatMap((f) => f.shards);
    const rates = { ingest: sum(all, (s) => s.rate), gateway: sum(all, (s) => s.done), persist: sum(all, (s) => s.kept) };
    this.events.take(this.feeds, answer.processes.map((p) => ({ id: p.id, name: ownerOf(p), alive: p.alive })), now);
    const roles = ["ingest", "book", "persist", "gateway"];
    this.processes = answer.processes.map((p) => {
      const owner = ownerOf(p);
      const mine = all.filter((s) => s.owner === owner);
      const rate = p.role === "book" ? sum(mine, (s) => s.done) : p.detail?.records_per_s ?? rates[p.role] ?? null;
      const behind = p.role === "persist" ? sum(all, (s) => s.lag.persist ?? 0) : null;
      return { ...p, owner, behind, shards: mine.length, rate, clients: typeof p.detail?.clients === "number" ? p.detail.clients : null };
    }).sort((a, b) => roles.indexOf(a.role) - roles.indexOf(b.role) || a.id.localeCompare(b.id));
  }

  shard(feed, s, seconds) {
    const key = `${feed.feed}/${feed.session}/${s.shard}`;
    const lane = this.lanes.get(key) ?? { history: [], phase: 0, out: 0, rate: 0, owner: s.owner, changed: -Infinity };
    const old = this.before.get(key);
    const rate = old && seconds ? Math.max(0, ((s.in ?? 0) - (old.in ?? 0)) / seconds) : 0;
    const kept = old && seconds ? Math.max(0, ((s.readers.persist?.at ?? 0) - (old.readers.persist?.at ?? 0)) / seconds) : 0;
    const done = old && seconds ? Math.max(0, ((s.out ?? 0) - (old.out ?? 0)) / seconds) : 0;
    if (old) lane.history.push(rate);
    if (lane.history.length > HISTORY) lane.history.shift();
    if (lane.owner !== s.owner || (old && old.epoch !== s.epoch)) lane.changed = this.at;
    Object.assign(lane, { rate, done, owner: s.owner });
    this.lanes.set(key, lane);
    this.before.set(key, s);
    const lag = Object.fromEntries(Object.entries(s.readers).map(([name, r]) => [name, r.lag]));
    return { ...s, key, rate, done, kept, lag, lane };
  }

  /** Moves the dots; speed grows with the logarithm of the rate, so that quiet and busy lanes are both readable. */
  move(elapsed, still) {
    if (still || this.stale) return;
    for (const lane of this.lanes.values()) {
      lane.phase = (lane.phase + elapsed * 0.00004 * Math.log10(1 + lane.rate) * 2) % 1;
      lane.out = (lane.out + elapsed * 0.00004 * Math.log10(1 + lane.done) * 2) % 1;
    }
  }
}
