import { clock } from "./format.js";

/** Steps of the axes, so that labels do not touch. */
const TIME_STEPS = [100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000];

export function timeTicks(left, right, most) {
  const step = TIME_STEPS.find((s) => (right - left) / s <= most) ?? TIME_STEPS.at(-1);
  const ticks = [];
  for (let t = Math.ceil(left / step) * step; t <= right; t += step) ticks.push([t, clock(t, step < 1000 ? 1 : 0)]);
  return ticks;
}

/** Rows to label: multiples of a round number of ticks. */
export function rowStep(rows, most) {
  const least = Math.max(1, rows / most);
  const ten = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((m) => Math.max(1, m * ten)).find((s) => s >= least);
}
