import { get } from "./api.js";

/** What names a row beside its bare symbol, which rows of two datasets may share. */
const specs = (row) => [`${row.dataset}:${row.symbol}`,
  ...[row.instrument_id, ...row.other_ids].flatMap((id) => [String(id), `${row.dataset}:${id}`])];

/** What instruments there are: looked up by search, never all at once into the page (there may be many thousands). */
export class Catalogue {
  constructor() {
    this.bySpec = new Map();
    this.total = null;
  }

  keep(rows) {
    for (const row of rows) {
      for (const spec of specs(row)) this.bySpec.set(spec, row);
      if (!this.bySpec.has(row.symbol)) this.bySpec.set(row.symbol, row);
    }
    return rows;
  }

  async search(text, { limit = 60, dataset = null, after = null, signal } = {}) {
    const answer = await get("instruments", { search: text, limit, dataset, after }, { signal });
    if (!text && !dataset) this.total = answer.total;
    this.keep(answer.instruments);
    return answer;
  }

  /** Which of these specs no feed has. */
  async missing(wanted) {
    const found = await Promise.all(wanted.map(async (spec) => {
      const symbol = spec.includes(":") ? spec.slice(spec.indexOf(":") + 1) : spec;
      const { instruments } = await this.search(/^\d+$/.test(symbol) ? "" : symbol, { limit: 1000 });
      return instruments.some((row) => row.symbol === spec || specs(row).includes(spec));
    }));
    return wanted.filter((_, k) => !found[k]);
  }

  /** Facts of one spec into an Instrument, when they come. */
  async describe(spec, instrument) {
    let row = this.bySpec.get(spec);
    if (!row) {
      const symbol = spec.includes(":") ? spec.slice(spec.indexOf(":") + 1) : spec;
      await this.search(/^\d+$/.test(symbol) ? "" : symbol, { limit: 200 }).catch(() => null);
      row = this.bySpec.get(spec);
    }
    if (row) instrument.setMeta(row);
  }
}
