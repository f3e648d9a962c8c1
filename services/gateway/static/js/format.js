/** Text for people: counts, durations, times of day. */
export function compact(n) {
  const abs = Math.abs(n);
  if (abs < 10_000) return String(Math.round(n));
  if (abs < 999_500) return `${(n / 1e3).toFixed(abs < 99_950 ? 1 : 0)}k`; // what would be rounded to 1000k is 1.00M
  if (abs < 999_950_000) return `${(n / 1e6).toFixed(abs < 9_995_000 ? 2 : 1)}M`;
  return `${(n / 1e9).toFixed(2)}B`;
}

const separated = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function grouped(n) {
  return separated.format(n);
}

export function duration(ms) {
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
}

export function latencyText(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : duration(ms);
}

const two = (n) => String(n).padStart(2, "0");

/** UTC time of day with `places` of a second (0, 1 or 3). */
export function clock(ms, places = 0) {
  const d = new Date(ms);
  const base = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}:${two(d.getUTCSeconds())}`;
  return places ? `${base}.${String(d.getUTCMilliseconds()).padStart(3, "0").slice(0, places)}` : base;
}

export function day(ms) {
  return new Date(ms).toISOString().slice(0, 10);
}

/** "2025-09-24 13:31:02.123456789" from nanoseconds as text. */
export function exactTime(ns) {
  const n = BigInt(ns);
  const d = new Date(Number(n / 1_000_000n));
  return `${d.toISOString().slice(0, 10)} ${clock(d.getTime())}.${(n % 1_000_000_000n).toString().padStart(9, "0")}`;
}
