import { apiUrl } from "./api.js";
import { Columns } from "./columns.js";
import { Instrument } from "./instrument.js";
import { recall } from "./recall.js";
import { SseParser, readSse } from "./sse.js";
import { matches } from "./tabs_key.js";
import { Trades } from "./trades.js";
import { Views } from "./views.js";

/**
 * The recent past of a chart that would else begin empty: two minutes from /v1/replay, the book no finer than a column,
 * read into a second Instrument on the same grid and put before what the first one has.
 */
export const PAST_NS = 120_000_000_000n;
const INTERVAL_MS = 100;
const MOST_EVENTS = 60_000;
const SLACK_NS = 10_000_000_000n; // the book's last change may be older than the last trade
const TRIES = 10; // a second apart: the recording is written a little later than live is shown

/** An instrument's past before `to` (ns); null without history, or when too much traded for it. */
export const recent = async (i, tab, to) => (await read(i, tab, { start: to - PAST_NS, end: to })).past;

/** An instrument's past up to exactly where its live views began, the ordinals `i.began`; null also if not recorded in time. */
export async function recentOfLive(i, tab) {
  const until = { ...i.began };
  const to = BigInt(Math.round(i.ms)) * 1_000_000n;
  for (let tries = 0; tries < TRIES; tries++) {
    const { past, recorded } = await read(i, tab, { start: to - PAST_NS, end: to + SLACK_NS, until });
    if (!past || Math.max(...Object.values(until)) <= recorded) return past;
    await new Promise((done) => setTimeout(done, 1000));
  }
  return null;
}

async function read(i, tab, { start, end, until = {} }) {
  const past = new Instrument(tab.spec);
  past.grid = i.grid;
  past.session = i.session;
  const gridVersion = i.grid.version;
  const views = new Views({ find: (v) => (matches(tab, v) && v.session === past.session ? past : null), lost: () => {} });
  const control = new AbortController();
  let count = 0;
  let recorded = 0;
  const parser = new SseParser((event, e) => {
    if (event === "bye") recorded = Math.min(...Object.values(e.recorded ?? {}));
    if (event === "bye" || event === "heartbeat" || (e.end ?? e.q) > until[e.channel]) return;
    views.apply(event, e);
    if (++count > MOST_EVENTS) control.abort();
  });
  const url = apiUrl("replay", { symbols: tab.spec, channels: "book,trades", depth: 100, interval: INTERVAL_MS, publisher: tab.publisher,
    session: i.session, start: String(start), end: String(end), speed: "max" });
  try {
    await recall(() => readSse(url, { signal: control.signal, parser }), { signal: control.signal });
  } catch {
    return { past: null };
  }
  return { past: past.columns.now && i.grid.version === gridVersion ? past : null, recorded };
}

/** Puts a past before what an instrument has; the past stays as it is. */
export function prepend(i, past) {
  if (i.session !== past.session || i.grid !== past.grid) return;
  const [columns, trades] = [new Columns(), new Trades()];
  for (const from of [past, i]) {
    columns.append(from.columns);
    trades.append(from.trades);
  }
  trades.version = i.trades.version + 1;
  Object.assign(i, { columns, trades });
  for (const [row, volume] of past.profile) {
    const at = i.profile.get(row);
    if (at) for (const side of ["buy", "sell", "none"]) at[side] += volume[side];
    else i.profile.set(row, { ...volume });
  }
  i.book.version++;
}
