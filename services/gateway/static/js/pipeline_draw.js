import { compact } from "./format.js";
import { colors } from "./theme.js";

/** Draws the pipeline: a box a feed, in it a lane a shard: ingest → queue → owner → out → gateway, and persist's lag. */
const TOP = 34;
const LANES = [30, 64];
const GAP = 26;
const HEAD = 34;

/** Lanes are as high as there is room for, within limits. */
export function laneHeight(feeds, room) {
  const lanes = feeds.reduce((sum, f) => sum + f.shards.length, 0) || 1;
  return Math.max(LANES[0], Math.min(LANES[1], Math.floor((room - TOP - feeds.length * (HEAD + GAP)) / lanes)));
}

export function heightOf(feeds, lane) {
  return TOP + feeds.reduce((sum, f) => sum + HEAD + f.shards.length * lane + GAP, 0);
}

export function drawPipeline(c, w, h, model, now, laneHigh) {
  c.fillStyle = colors.panel;
  c.fillRect(0, 0, w, h);
  c.textBaseline = "middle";
  const x = columns(w);
  head(c, x);
  if (!model.feeds.length) {
    c.fillStyle = colors.muted;
    c.font = `13px ${colors.sans}`;
    c.textAlign = "center";
    c.fillText("no feed yet: start a source, for example mbo demo", w / 2, 120);
    return;
  }
  c.globalAlpha = model.stale ? 0.4 : 1;
  let y = TOP;
  for (const feed of model.feeds) {
    const height = HEAD + feed.shards.length * laneHigh;
    box(c, x, y, w, height, feed);
    for (const [k, shard] of feed.shards.entries()) lane(c, x, y + HEAD + k * laneHigh + laneHigh / 2, shard, model, now);
    y += height + GAP;
  }
  c.globalAlpha = 1;
}

function columns(w) {
  const left = 16;
  const right = w - 16;
  const narrow = w < 760;
  const spark = narrow ? 0 : Math.min(150, w * 0.13);
  const owner = narrow ? 96 : 128;
  const from = left + 62;
  const end = right - spark - 78;
  const middle = from + (end - from) * 0.56;
  return { left, right, from, owner, ownerX: middle - owner / 2, queueEnd: middle - owner / 2 - 8, queue: Math.max(40, (middle - from) * 0.42), outFrom: middle + owner / 2 + 6, end, spark, rateX: right - spark - 10 };
}

function head(c, x) {
  c.font = `500 11px ${colors.sans}`;
  c.fillStyle = colors.muted;
  const y = TOP - 14;
  c.textAlign = "left";
  c.fillText("ingest", x.from, y);
  c.textAlign = "right";
  const right = x.queueEnd - c.measureText("waiting for book, for persist").width;
  c.fillText("waiting for book, for persist", x.queueEnd, y);
  c.fillStyle = colors.good;
  c.fillRect(right - 14, y - 5, 9, 5);
  c.fillStyle = colors.faint;
  c.fillRect(right - 14, y + 2, 9, 3);
  c.fillStyle = colors.muted;
  c.textAlign = "center";
  c.fillText("book worker", x.ownerX + x.owner / 2, y);
  c.textAlign = "right";
  c.fillText("gateway", x.end, y);
  c.fillText("records/s", x.rateX, y);
  if (x.spark) c.fillText("last minute", x.right - 8, y);
}

function box(c, x, y, w, height, feed) {
  c.fillStyle = colors.raised;
  c.strokeStyle = colors.line;
  c.beginPath();
  c.roundRect(x.left - 8 + 0.5, y + 0.5, w - 2 * (x.left - 8) - 1, height + 6, 8);
  c.fill();
  c.stroke();
  c.textAlign = "left";
  c.font = `600 13px ${colors.sans}`;
  c.fillStyle = colors.text;
  c.fillText(feed.feed, x.left + 4, y + 18);
  const width = c.measureText(feed.feed).width;
  c.font = `12px ${colors.sans}`;
  c.fillStyle = feed.owner ? colors.muted : colors.bad;
  c.fillText(`session ${feed.session} · ${feed.state} · ${feed.policy} · ${feed.owner ? `ingest ${feed.owner}` : "no ingest: nothing new comes"}`, x.left + width + 14, y + 18.5);
  c.textAlign = "right";
  c.font = `600 12px ${colors.mono}`;
  c.fillStyle = colors.text;
  c.fillText(`${compact(feed.rate)}/s`, x.rateX, y + 18);
}

function lane(c, x, y, s, model, now) {
  const color = s.owner ? model.color(s.owner) : colors.bad;
  c.font = `500 12px ${colors.mono}`;
  c.textAlign = "left";
  c.fillStyle = colors.muted;
  c.fillText(`#${s.shard}`, x.left + 6, y);
  c.fillStyle = colors.line;
  c.fillRect(x.from, y - 0.5, x.queueEnd - x.from, 1);
  c.fillRect(x.outFrom, y - 0.5, x.end - x.outFrom, 1);
  dots(c, x.from, x.queueEnd - x.queue - 6, y, s.lane.phase, s.rate, colors.text);
  queue(c, x, y, s);
  owner(c, x, y, s, color, now);
  dots(c, x.outFrom, x.end, y, s.lane.out, s.owner ? s.done : 0, color);
  c.fillStyle = s.stale ? colors.bad : color;
  c.beginPath();
  c.arc(x.end + 2, y, 3.5, 0, 6.2832);
  c.fill();
  c.textAlign = "right";
  c.font = `500 12px ${colors.mono}`;
  c.fillStyle = s.stale ? colors.bad : colors.text;
  c.fillText(s.stale ? "stale" : compact(s.rate), x.rateX, y);
  if (x.spark) spark(c, x.right - 8 - x.spark + 14, y, x.spark - 14, s.lane.history, color);
}

function dots(c, from, to, y, phase, rate, color) {
  if (rate <= 0 || to - from < 10) return;
  const gap = Math.max(9, 46 - 9 * Math.log10(1 + rate));
  c.fillStyle = color;
  for (let at = from + ((phase * 1000) % gap); at < to; at += gap) {
    c.beginPath();
    c.arc(at, y, 1.8, 0, 6.2832);
    c.fill();
  }
}

/** What waits before the worker (records, log scale), above; what persist has still to take, below. */
function queue(c, x, y, s) {
  const left = x.queueEnd - x.queue;
  const scaled = (lag) => Math.min(1, Math.log10(1 + lag) / 5) * x.queue;
  c.fillStyle = colors.hover;
  c.fillRect(left, y - 8, x.queue, 9);
  c.fillRect(left, y + 3, x.queue, 3);
  const book = s.lag.book ?? Math.max(0, (s.in ?? 0) - (s.out ?? 0));
  c.fillStyle = book > 20_000 ? colors.bad : book > 1000 ? colors.warn : colors.good;
  const width = Math.max(1, scaled(book));
  c.fillRect(x.queueEnd - width, y - 8, width, 9);
  if ("persist" in s.lag) {
    c.fillStyle = colors.faint;
    const p = Math.max(1, scaled(s.lag.persist));
    c.fillRect(x.queueEnd - p, y + 3, p, 3);
  }
  c.font = `500 10px ${colors.mono}`;
  c.fillStyle = colors.text;
  c.textAlign = "left";
  c.fillText(compact(book), left + 3, y - 3);
}

function owner(c, x, y, s, color, now) {
  const fresh = Math.max(0, 1 - (now - s.lane.changed) / 2500);
  c.beginPath();
  c.roundRect(x.ownerX, y - 10.5, x.owner, 21, 5);
  if (s.owner) {
    c.globalAlpha = 0.2 + fresh * 0.5;
    c.fillStyle = color;
    c.fill();
    c.globalAlpha = 1;
    c.strokeStyle = color;
    c.lineWidth = 1 + fresh * 1.5;
    c.stroke();
  } else {
    c.setLineDash([4, 3]);
    c.strokeStyle = colors.bad;
    c.lineWidth = 1.5;
    c.stroke();
    c.setLineDash([]);
  }
  c.lineWidth = 1;
  c.textAlign = "center";
  c.font = `500 11.5px ${colors.mono}`;
  c.fillStyle = s.owner ? colors.text : colors.bad;
  const text = s.owner ? `${s.owner}` : "no owner";
  c.fillText(text.length > 16 ? `…${text.slice(-15)}` : text, x.ownerX + x.owner / 2, y + 0.5);
}

function spark(c, left, y, width, history, color) {
  if (history.length < 2) return;
  const most = Math.max(1, ...history);
  c.beginPath();
  for (const [k, v] of history.entries()) {
    const px = left + width - (history.length - 1 - k) * (width / 119);
    const py = y + 9 - (v / most) * 18;
    if (k) c.lineTo(px, py);
    else c.moveTo(px, py);
  }
  c.strokeStyle = color;
  c.lineWidth = 1.2;
  c.stroke();
  c.lineWidth = 1;
}
