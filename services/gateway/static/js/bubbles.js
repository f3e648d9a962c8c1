/**
 * Trades as bubbles: those of one aggressor within a bucket of time are one, at their mean price and time, weighted by size.
 * Buckets stand in market time, so that bubbles do not change while the chart moves under them.
 * Returns [{t, row, side, size}], by time; side 1 bought, −1 sold, 0 neither.
 */
export function bubbles(trades, left, right, bucketMs) {
  const out = [];
  const open = [null, null, null];
  let bucket = null;
  for (let k = trades.find((Math.floor(left / bucketMs) - 1) * bucketMs); k < trades.length; k++) {
    const slot = trades.slot(k);
    const t = trades.t[slot];
    if (t > right) break;
    const at = Math.floor(t / bucketMs);
    if (at !== bucket) {
      bucket = at;
      open.fill(null);
    }
    const side = trades.side[slot];
    const size = trades.size[slot];
    const old = open[side + 1];
    if (old) {
      const share = size / (old.size += size || 1);
      old.t += (t - old.t) * share;
      old.row += (trades.row[slot] - old.row) * share;
    } else out.push((open[side + 1] = { t, row: trades.row[slot], side, size: size || 1 }));
  }
  return out;
}
