import { el } from "./dom.js";

/** The same ladder as a table for screen readers: the ten best levels a side, renewed once a second. */
const EVERY_MS = 1000;
const DEPTH = 10;

export class LadderTable {
  constructor(table) {
    this.table = table;
    this.at = 0;
    this.version = -1;
  }

  update(i, now) {
    if (now - this.at < EVERY_MS || i.book.version === this.version) return;
    this.at = now;
    this.version = i.book.version;
    const { bids, asks } = i.book.rows(DEPTH);
    const cells = (level) => (level ?? ["", "", ""]).map((x) => el("td", {}, String(x)));
    const rows = [];
    for (let k = 0; k < Math.max(bids.length, asks.length); k++) rows.push(el("tr", {}, el("th", { scope: "row" }, String(k + 1)), ...cells(bids[k]), ...cells(asks[k])));
    this.table.replaceChildren(
      el("caption", {}, `Best levels of ${i.symbol}`),
      el("thead", {}, el("tr", {}, ...["Level", "Bid price", "Bid size", "Bid orders", "Ask price", "Ask size", "Ask orders"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, ...rows));
  }
}
