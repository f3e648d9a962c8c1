import { parseArgs } from "node:util";
import { fake, hasBook, launch, open } from "./harness.mjs";

/**
 * One instrument with 1,000 book changes a second, every panel of the focus layout drawing, for --minutes: frames a second,
 * the longest of them, and the JavaScript heap (with its typed arrays) after a forced collection. The heap's growth is the slope of a line through the
 * samples after warm-up, when the rings (columns, trades, flow) are as full as --minutes lets them get; it is also told for
 * the second half alone. Exit 1 when the slope's lower bound (95 %) says it grows by more than --mb an hour.
 *
 * node soak.mjs --minutes 30   ·   `make page-soak MINUTES=30`
 */
const { values } = parseArgs({ options: { minutes: { type: "string", default: "30" }, every: { type: "string", default: "10" }, mb: { type: "string", default: "8" }, json: { type: "boolean", default: false } } });
const [minutes, every, limit] = [Number(values.minutes), Number(values.every) * 1000, Number(values.mb)];
const MB = 1024 * 1024;
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Least squares of y over t: {slope, error: standard error of the slope}. */
function line(points) {
  const n = points.length;
  const [t, y] = [points.reduce((s, p) => s + p[0], 0) / n, points.reduce((s, p) => s + p[1], 0) / n];
  const tt = points.reduce((s, p) => s + (p[0] - t) ** 2, 0);
  const slope = points.reduce((s, p) => s + (p[0] - t) * (p[1] - y), 0) / tt;
  const rest = points.reduce((s, p) => s + (p[1] - y - slope * (p[0] - t)) ** 2, 0);
  return { slope, error: Math.sqrt(rest / Math.max(1, n - 2) / tt) };
}

const stage = await launch();
const page = await open(stage, "#symbols=BUSY");
await hasBook(page);
const cdp = await stage.context.newCDPSession(page);

/** Frames and changes of the next `ms`. */
const observe = (ms) => page.evaluate((length) => new Promise((done) => {
  const { live, instrument: i } = window.mbostream;
  const from = { at: performance.now(), version: i.book.version };
  const gaps = [];
  let last = from.at;
  const tick = (now) => {
    gaps.push(now - last);
    last = now;
    if (now - from.at < length) requestAnimationFrame(tick);
    else {
      gaps.sort((a, b) => a - b);
      done({ fps: (gaps.length * 1000) / (now - from.at), p99: gaps[Math.floor(gaps.length * 0.99)], changes: ((i.book.version - from.version) * 1000) / (now - from.at), behind: live.serverNow - i.ms });
    }
  };
  requestAnimationFrame(tick);
}), ms);

const samples = [];
const began = performance.now();
while (performance.now() - began < minutes * 60_000) {
  const frames = await observe(every);
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize, backingStorageSize: arrays = 0 } = await cdp.send("Runtime.getHeapUsage");
  const { metrics } = await cdp.send("Performance.enable").then(() => cdp.send("Performance.getMetrics"));
  const nodes = metrics.find((m) => m.name === "Nodes").value;
  samples.push({ minute: (performance.now() - began) / 60_000, heap: (usedSize + arrays) / MB, nodes, ...frames });
  const s = samples.at(-1);
  if (!values.json) process.stdout.write(`${s.minute.toFixed(1).padStart(5)} min  heap ${s.heap.toFixed(2)} MB  ${s.nodes} nodes  ${s.fps.toFixed(1)} fps  p99 frame ${s.p99.toFixed(1)} ms  ${Math.round(s.changes)} changes/s  ${Math.round(s.behind)} ms behind\n`);
}
const after = (from) => samples.filter((s) => s.minute >= from).map((s) => [s.minute / 60, s.heap]);
const whole = line(after(Math.min(6, minutes / 3)));
const half = line(after(minutes / 2));
const { connects } = await fake(stage, "calm", { symbol: "BUSY" });
const result = { minutes, samples: samples.length, fps: median(samples.map((s) => s.fps)), fps_least: Math.min(...samples.map((s) => s.fps)), p99_frame_ms: median(samples.map((s) => s.p99)),
  changes_per_s: median(samples.map((s) => s.changes)), behind_ms: median(samples.map((s) => s.behind)), heap_mb: { first: samples[0].heap, last: samples.at(-1).heap, most: Math.max(...samples.map((s) => s.heap)) },
  mb_per_hour: whole, mb_per_hour_second_half: half, nodes: [samples[0].nodes, samples.at(-1).nodes], connects, faults: page.faults };
process.stdout.write(`${JSON.stringify(result, (_, v) => (typeof v === "number" ? Math.round(v * 100) / 100 : v))}\n`);
await stage.close();
const grows = half.slope - 2 * half.error > limit;
if (grows) process.stderr.write(`the heap grows by ${half.slope.toFixed(1)} ± ${(2 * half.error).toFixed(1)} MB an hour\n`);
process.exit(grows || page.faults.length ? 1 : 0);
