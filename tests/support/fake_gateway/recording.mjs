import { Market } from "./market.mjs";
import { hash, makeRng } from "./rng.mjs";

/** What is "recorded": a market and the times of its events. Rebuilt from its seed, so any instant can be replayed. */
const MS = 1_000_000n;

export class Recording {
  constructor(options, session) {
    this.options = options;
    this.session = session;
    this.times = [];
  }

  market() {
    return new Market(this.options);
  }

  get first() {
    return this.times[0];
  }

  get last() {
    return this.times.at(-1);
  }

  /** Runs from the beginning; calls back for events in [start, end) after `begin(market)` at start. */
  replay(start, end, begin, event) {
    const market = this.market();
    let begun = false;
    for (const ts of this.times) {
      if (ts >= end) break;
      if (!begun && ts >= start) {
        begun = true;
        begin(market);
      }
      const e = market.step(ts);
      if (begun) event(market, e);
    }
    if (!begun) begin(market);
    return market;
  }

  activity(start, end, buckets) {
    const width = (end - start) / BigInt(buckets) || 1n;
    const counts = new Array(buckets).fill(0);
    for (const ts of this.times) {
      if (ts < start || ts >= end) continue;
      counts[Math.min(buckets - 1, Number((ts - start) / width))]++;
    }
    const rows = counts
      .map((n, i) => [String(start + width * BigInt(i)), n, Math.round(n * 0.07), Math.round(n * 0.2)])
      .filter((r) => r[1]);
    return { bucket_ns: String(width), rows };
  }
}

/** A recorded stretch of market time with bursts, so that a timeline of it has a shape. */
export function recordedDay(options, startMs, seconds, perSecond, session) {
  const recording = new Recording({ ...options, seed: options.seed ^ (session * 7919) }, session);
  const rng = makeRng(hash(options.symbol) ^ startMs ^ session);
  let at = BigInt(startMs) * MS;
  const end = at + BigInt(seconds) * 1000n * MS;
  let pace = 1;
  while (at < end) {
    if (rng.next() < 0.002) pace = 0.25 + rng.next() * rng.next() * 6;
    const share = Number(at - BigInt(startMs) * MS) / (seconds * 1e9);
    const curve = 0.6 + 1.6 * Math.pow(2 * share - 1, 2);
    at += BigInt(Math.max(1, Math.round((-Math.log(1 - rng.next()) * 1e9) / (perSecond * pace * curve))));
    if (at < end) recording.times.push(at);
  }
  return recording;
}
