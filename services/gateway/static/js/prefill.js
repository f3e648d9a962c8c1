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

/** An instrument's past before `to` (ns); null without history, or when too much traded for it. */
export async function recent(i, tab, to) {
  const past = new Instrument(tab.spec);
  past.grid = i.grid;
  past.session = i.session;
  const gridVersion = i.grid.version;
  const views = new Views({ find: (v) => (matches(tab, v) && v.session === past.session ? past : null), lost: () => {} });
  const control = new AbortController();
  let count = 0;
  const parser = new SseParser((event, e) => {
    if (event === "bye" || event === "heartbeat") return;
    views.apply(event, e);
    if (++count > MOST_EVENTS) control.abort();
  });
  const url = apiUrl("replay", { symbols: tab.spec, channels: "book,trades", depth: 100, interval: INTERVAL_MS, publisher: tab.publisher,
    session: i.session, start: String(to - PAST_NS), end: String(to), speed: "max" });
  try {
    await recall(() => readSse(url, { signal: control.signal, parser }), { signal: control.signal });
  } catch {
    return null;
  }
  return past.columns.now && i.grid.version === gridVersion ? past : null;
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
