import { get } from "./api.js";

/** What is recorded of an instrument: days (one a session and UTC day, newest first), and where a time lies in them. */
export class Days {
  constructor() {
    this.rows = [];
    this.spec = null;
    this.error = "";
  }

  async load(spec) {
    const symbol = spec.includes(":") ? spec.slice(spec.indexOf(":") + 1) : spec;
    this.spec = spec;
    try {
      const { days } = await get("days", { symbol: spec }).catch(() => get("days", { symbol }));
      if (this.spec !== spec) return this.rows;
      this.rows = days.map((d) => ({ ...d, first: BigInt(d.first), last: BigInt(d.last) }));
      this.error = "";
    } catch (error) {
      this.rows = [];
      this.error = error.message;
    }
    return this.rows;
  }

  /** The day that holds a time, or the newest; null: nothing is recorded. */
  holding(t, session = null) {
    const rows = session === null ? this.rows : this.rows.filter((d) => d.session === session);
    if (t !== null) {
      const ns = BigInt(t);
      const hit = rows.find((d) => d.first <= ns && ns <= d.last);
      if (hit) return hit;
    }
    return rows[0] ?? null;
  }
}

/** The range of a day, with its mean rate of records: what the player needs. */
export function rangeOf(d) {
  return { first: d.first, last: d.last, session: d.session, date: d.date, perSecond: (d.records / Math.max(1, d.instruments)) / Math.max(1, Number(d.last - d.first) / 1e9) };
}
