/**
 * One requestAnimationFrame loop for everything that draws. A widget says when it is dirty; frames are measured. What shows
 * figures takes new ones on the same frames (`beat`), so that a price is the same everywhere.
 */
const BEAT_MS = 30;
const widgets = new Set();
let running = false;
const times = new Float32Array(120);
let count = 0;
let lastAt = 0;
let beatAt = 0;

export function draws(widget) {
  widgets.add(widget);
  if (!running) {
    running = true;
    requestAnimationFrame(loop);
  }
  return () => widgets.delete(widget);
}

function loop(now) {
  requestAnimationFrame(loop);
  if (lastAt) times[count++ % times.length] = now - lastAt;
  lastAt = now;
  const beat = now - beatAt >= BEAT_MS;
  if (beat) beatAt = now;
  const began = performance.now();
  for (const widget of widgets) {
    try {
      widget.frame(now, beat);
    } catch (error) {
      widgets.delete(widget); // one broken panel must not stop the others; the error still reaches the console
      reportError(error);
    }
  }
  work[count % work.length] = performance.now() - began;
}

const work = new Float32Array(120);

/** {fps, workMs: the median time a frame took us, worstMs} over the last 120 frames. */
export function frameStats() {
  const n = Math.min(count, times.length);
  if (!n) return { fps: 0, workMs: 0, worstMs: 0 };
  let sum = 0;
  for (let i = 0; i < n; i++) sum += times[i];
  const sorted = [...work.slice(0, n)].sort((a, b) => a - b);
  return { fps: 1000 / (sum / n), workMs: sorted[n >> 1], worstMs: sorted[n - 1] };
}
