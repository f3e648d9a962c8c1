/** p50 and p99 over the last 10 s of three named stamps: due → ingest, → book, → gateway (microseconds). */
const KEEP = 2048;
const WINDOW_MS = 10_000;

export class Latency {
  constructor() {
    this.at = new Float64Array(KEEP);
    this.us = [new Float64Array(KEEP), new Float64Array(KEEP), new Float64Array(KEEP)];
    this.n = 0;
  }

  add(stamps, now) {
    const slot = this.n++ % KEEP;
    this.at[slot] = now;
    for (let i = 0; i < 3; i++) this.us[i][slot] = stamps[i + 1];
  }

  /** {n, ingest, book, gateway: {p50, p99}} in ms, or null when nothing came lately. */
  read(now) {
    const held = Math.min(this.n, KEEP);
    const slots = [];
    for (let i = 0; i < held; i++) if (now - this.at[i] < WINDOW_MS) slots.push(i);
    if (!slots.length) return null;
    const of = (column) => {
      const values = slots.map((s) => column[s]).sort((a, b) => a - b);
      const at = (p) => values[Math.min(values.length - 1, Math.floor(values.length * p))] / 1000;
      return { p50: at(0.5), p99: at(0.99) };
    };
    return { n: slots.length, ingest: of(this.us[0]), book: of(this.us[1]), gateway: of(this.us[2]) };
  }
}
