/** What happened to the pipeline while one watched: owners that changed, processes that came and went. Newest first. */
const MOST = 60;

export class PipelineEvents {
  constructor() {
    this.rows = []; // {at: wall clock in ms, kind: bad | good | info, text}
    this.owners = new Map();
    this.processes = new Map();
    this.first = true;
  }

  /** The state at `now` (ms of the monotonic clock): feeds with shards; processes as [{id, name, alive}]. */
  take(feeds, processes, now) {
    for (const { id, name, alive } of processes) {
      const was = this.processes.get(id)?.alive;
      if (was !== alive && (alive || was)) this.say(alive ? "info" : "bad", `${name} ${alive ? (was === undefined ? "started" : "is back") : "is gone"}`);
    }
    for (const [id, { name, alive }] of this.processes) if (alive && !processes.some((p) => p.id === id)) this.say("bad", `${name} is gone`);
    this.processes = new Map(processes.map((p) => [p.id, p]));
    const moves = new Map();
    for (const { feed, shards } of feeds)
      for (const { shard, owner, epoch } of shards) {
        const key = `${feed}/${shard}`;
        const was = this.owners.get(key);
        if (was && was.owner === owner && was.epoch === epoch) continue;
        this.owners.set(key, { owner, epoch, since: now });
        if (!was) continue;
        const what = change(was, owner, now);
        moves.set(`${feed} ${what}`, { feed, what, bad: owner === null, shards: [...(moves.get(`${feed} ${what}`)?.shards ?? []), shard] });
      }
    for (const { feed, what, bad, shards } of moves.values()) this.say(bad ? "bad" : "good", `${feed} ${shards.map((s) => `#${s}`).join(" ")} ${what}`);
    this.first = false;
  }

  say(kind, text) {
    if (this.first) return;
    this.rows.unshift({ at: Date.now(), kind, text });
    if (this.rows.length > MOST) this.rows.pop();
  }
}

function change(was, owner, now) {
  if (owner === null) return `lost by ${was.owner}`;
  if (was.owner === null) return `taken by ${owner} after ${((now - was.since) / 1000).toFixed(0)} s`;
  return was.owner === owner ? `taken again by ${owner}` : `moved from ${was.owner} to ${owner}`;
}
