/** A made-up /v1/pipeline: four shards a feed over three book workers; `kill` takes one away for a while. */
export class Pipeline {
  constructor() {
    this.started = Date.now();
    this.workers = ["book-4711", "book-4712", "book-4713"];
    this.dead = new Map();
    this.feeds = ["glbx.mdp3", "xnas.itch", "dbeq.basic"];
    this.counts = new Map();
  }

  kill(worker, ms = 6000) {
    this.dead.set(worker, Date.now() + ms);
  }

  answer() {
    const now = Date.now();
    for (const [w, until] of this.dead) if (until < now) this.dead.delete(w);
    const alive = this.workers.filter((w) => !this.dead.has(w));
    const seconds = (now - this.started) / 1000;
    const feeds = this.feeds.map((feed, f) => ({
      feed, dataset: feed.toUpperCase(), session: 3, state: "open", policy: "uncross", owner: "ingest-4700",
      readers: ["book", "persist"],
      shards: [0, 1, 2, 3].map((shard) => {
        const natural = this.workers[(shard + f) % this.workers.length];
        const goneFor = this.dead.has(natural) ? 6000 - (this.dead.get(natural) - now) : 0;
        const owner = goneFor === 0 ? natural : goneFor < 2200 ? null : alive[(shard + f) % alive.length];
        const rate = [4200, 1900, 640][f] * (0.6 + ((shard * 37 + f * 11) % 10) / 12);
        const at = Math.floor(rate * seconds + 40 * Math.sin(seconds + shard));
        const lag = owner ? Math.max(0, Math.floor(4 + 9 * Math.sin(seconds * 2 + shard * 2 + f))) : Math.floor(rate * goneFor / 1000);
        const persist = Math.floor(60 + 50 * Math.sin(seconds * 3 + shard));
        return {
          shard, owner, epoch: owner === natural ? 3 : 4, in: at, out: at - lag, gateway: at - lag - 2,
          readers: { book: { at: at - lag, lag }, persist: { at: at - persist, lag: persist } },
          image: Math.max(0, at - 9000), stale: false,
        };
      }),
    }));
    const process = (id, role, detail) => ({
      id, role, pid: Number(id.split("-")[1]), host: "fake", started: String(this.started * 1e6), age_ms: this.dead.has(id) ? 4200 : 180,
      alive: !this.dead.has(id), feeds: this.feeds, detail,
    });
    return {
      ts_gateway: String(now * 1e6), gateway: "gw-fake", feeds,
      processes: [
        process("ingest-4700", "ingest", { records_per_s: 26_960 }),
        ...this.workers.map((w) => process(w, "book", { records_per_s: 9000 })),
        process("persist-4720", "persist", { records_per_s: 26_900 }),
        process("gateway-4730", "gateway", { clients: 3 }),
      ],
    };
  }
}
