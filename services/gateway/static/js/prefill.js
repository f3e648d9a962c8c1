import { apiUrl } from "./api.js";
import { Instrument } from "./instrument.js";
import { recall } from "./recall.js";
import { SseParser, readSse } from "./sse.js";
import { matches } from "./tabs_key.js";
import { Views } from "./views.js";

/**
 * Gives a live chart its recent past, so that it does not begin empty: the last minutes from /v1/replay into a second
 * Instrument on the same grid, put before what came live meanwhile. Without history it does nothing.
 */
const PAST_NS = 120_000_000_000n;
const MOST_EVENTS = 60_000;

export async function prefill(live, tab, publisher) {
  const to = BigInt(Math.round(live.ms * 1000)) * 1000n;
  const session = live.session;
  const past = new Instrument(tab.spec);
  past.grid = live.grid;
  const version = live.grid.version;
  const views = new Views({ find: (v) => (matches(tab, v) && v.session === session ? past : null), lost: () => {} });
  const control = new AbortController();
  let count = 0;
  const parser = new SseParser((event, e) => {
    if (event === "bye" || event === "heartbeat") return;
    views.apply(event, e);
    if (++count > MOST_EVENTS) control.abort();
  });
  const url = apiUrl("replay", { symbols: tab.spec, channels: "book,trades", depth: 100, publisher, start: String(to - PAST_NS), end: String(to), speed: "max" });
  try {
    await recall(() => readSse(url, { signal: control.signal, parser }), { signal: control.signal });
  } catch {
    return false; // no history service, nothing recorded, or too much of it: the chart then begins now
  }
  if (live.session !== session || live.grid.version !== version || !past.columns.now) return false;
  past.columns.append(live.columns);
  live.columns = past.columns;
  for (const trade of live.trades.tape) past.trades.add(trade);
  past.trades.mark = live.trades.mark ?? past.trades.mark;
  live.trades = past.trades;
  for (const [row, v] of past.profile) {
    const at = live.profile.get(row);
    if (at) for (const side of ["buy", "sell", "none"]) at[side] += v[side];
    else live.profile.set(row, v);
  }
  live.book.version++;
  return true;
}
