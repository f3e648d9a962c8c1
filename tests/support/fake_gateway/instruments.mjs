import { hash } from "./rng.mjs";
import { decimal } from "./market.mjs";

/** The catalogue: a handful of busy markets, odd ones for tests, and thousands of names that wake when asked for. */
const GLBX = { dataset: "GLBX.MDP3", feed: "glbx.mdp3", publishers: [1] };
const XNAS = { dataset: "XNAS.ITCH", feed: "xnas.itch", publishers: [2] };
const DBEQ = { dataset: "DBEQ.BASIC", feed: "dbeq.basic", publishers: [39, 40, 41] };

const named = [
  { symbol: "CLX5", id: 294973, ...GLBX, tick: 10_000_000n, mid: 6478, rate: 60, multiplier: "1000", currency: "USD" },
  { symbol: "ESZ5", id: 14160, ...GLBX, tick: 250_000_000n, mid: 26940, rate: 110, multiplier: "50", currency: "USD", lot: 3 },
  { symbol: "ZNZ5", id: 7113, ...GLBX, tick: 15_625_000n, mid: 7219, rate: 40, multiplier: "1000", currency: "USD", lot: 12 },
  { symbol: "6EZ5", id: 3301, ...GLBX, tick: 50_000n, mid: 23581, rate: 30, multiplier: "125000", currency: "USD" },
  { symbol: "AAPL", id: 32, ...XNAS, tick: 10_000_000n, mid: 25512, rate: 45, lot: 40, currency: "USD" },
  { symbol: "ARL", id: 1188, ...XNAS, tick: 10_000_000n, mid: 1411, rate: 3, lot: 100, currency: "USD" },
  { symbol: "SPY", id: 15144, ...DBEQ, tick: 10_000_000n, mid: 66120, rate: 60, lot: 100, currency: "USD" },
  { symbol: "NANO", id: 900001, ...GLBX, tick: 1n, mid: 60, rate: 15, depth: 20 },
  { symbol: "HUGE", id: 900002, ...GLBX, tick: 1n, mid: 9_007_199_254_740_000, rate: 15 },
  { symbol: "CLNEG", id: 900003, ...GLBX, tick: 10_000_000n, mid: -3763, rate: 15, multiplier: "1000" },
  { symbol: "BUSY", id: 900004, ...GLBX, tick: 10_000_000n, mid: 10000, rate: 1000 },
];

const months = "FGHJKMNQUVXZ";
const roots = ["GC", "SI", "HG", "PL", "NG", "HO", "RB", "BZ", "NQ", "YM", "RTY", "ZB", "ZF", "ZT", "6J", "6B", "6A", "6C", "ZC", "ZW",
  "ZS", "ZL", "ZM", "LE", "HE", "GF", "SR3", "ZQ", "BTC", "ETH"];

function generated() {
  const list = [];
  for (const root of roots)
    for (let year = 5; year < 10; year++)
      for (const month of months) {
        const symbol = `${root}${month}${year}`;
        const h = hash(symbol);
        list.push({ symbol, id: 1_000_000 + list.length, ...GLBX, tick: [10_000_000n, 250_000_000n, 100_000n, 5_000_000n][h % 4],
          mid: 1000 + (h % 20000), rate: 4 + (h % 9) });
      }
  for (let i = 0; i < 1800; i++) {
    let n = i;
    let symbol = "";
    do symbol = String.fromCharCode(65 + (n % 26)) + symbol; while ((n = Math.floor(n / 26) - 1) >= 0);
    list.push({ symbol: `Q${symbol}`, id: 2000 + i, ...XNAS, tick: 10_000_000n, mid: 500 + (hash(symbol) % 40000), rate: 2, lot: 100 });
  }
  return list;
}

export function catalogue({ session = 3 } = {}) {
  return [...named, ...generated()].map((i) => ({
    ...i, shard: hash(i.symbol) % 4, session, override: null, seed: hash(i.symbol),
  }));
}

export const live = named.map((i) => i.symbol);

export function answer(i, first, last) {
  return {
    symbol: i.symbol, instrument_id: i.id, other_ids: [], dataset: i.dataset, feed: i.feed, shard: i.shard, publishers: i.publishers,
    tick_size: decimal(i.tick), multiplier: i.multiplier ?? null, currency: i.currency ?? null, expiration: null,
    first: first ? String(first) : null, last: last ? String(last) : null, stale: Boolean(i.override?.stale),
    crossed: Boolean(i.override?.crossed), live: true,
  };
}
