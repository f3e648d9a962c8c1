/** The levels of a book gathered into a ladder's visible rows: sizes, counts, running totals, volume traded there. */
export class LadderRows {
  constructor() {
    this.rows = new Map();
    this.bestBid = null;
    this.bestAsk = null;
    this.largest = 1;
    this.mostTraded = 1;
  }

  at(row) {
    return this.rows.get(row) ?? null;
  }

  need(row) {
    let at = this.rows.get(row);
    if (!at) {
      at = { bid: 0, bids: 0, bidSum: 0, bidAt: 0, bidChange: 0, bidPrices: [], ask: 0, asks: 0, askSum: 0, askAt: 0, askChange: 0, askPrices: [], traded: 0, sold: 0 };
      this.rows.set(row, at);
    }
    return at;
  }

  /** Rows low…high (display rows of `group` ticks): bids round down to a row, asks up, so a row never mixes them. */
  fill(i, group, low, high, cumulative) {
    this.rows.clear();
    this.largest = 1;
    this.mostTraded = 1;
    let sum = 0;
    this.bestBid = null;
    for (const level of i.book.bids.levels) {
      const row = Math.floor(level.row / group);
      this.bestBid ??= row;
      sum += level.size;
      if (row < low) break;
      if (row > high) continue;
      const at = this.need(row);
      at.bid += level.size;
      at.bids += level.count;
      at.bidSum = sum;
      at.bidPrices.push(level.text);
      if (level.at > at.bidAt) [at.bidAt, at.bidChange] = [level.at, level.change];
      this.largest = Math.max(this.largest, cumulative ? sum : at.bid);
    }
    sum = 0;
    this.bestAsk = null;
    for (const level of i.book.asks.levels) {
      const row = Math.ceil(level.row / group);
      this.bestAsk ??= row;
      sum += level.size;
      if (row > high) break;
      if (row < low) continue;
      const at = this.need(row);
      at.ask += level.size;
      at.asks += level.count;
      at.askSum = sum;
      at.askPrices.push(level.text);
      if (level.at > at.askAt) [at.askAt, at.askChange] = [level.at, level.change];
      this.largest = Math.max(this.largest, cumulative ? sum : at.ask);
    }
    for (const [tick, volume] of i.profile) {
      const row = Math.floor(tick / group);
      if (row < low || row > high) continue;
      const at = this.need(row);
      at.traded += volume.buy + volume.sell + volume.none;
      at.sold += volume.sell;
      this.mostTraded = Math.max(this.mostTraded, at.traded);
    }
  }
}

/** Ticks a row such that the ten best levels of each side fit in `visible` rows; changes only when clearly needed. */
export function autoGroup(book, visible, groups, current) {
  const { bid, ask } = book;
  if (!bid || !ask) return current;
  const far = (side) => side.levels[Math.min(9, side.levels.length - 1)].row;
  const span = Math.abs(far(book.asks) - far(book.bids)) + 1;
  const fits = groups.find((g) => span / g <= visible) ?? groups.at(-1);
  if (fits > current) return span / current > visible * 1.5 ? fits : current;
  return span / fits < visible * 0.7 ? fits : current;
}
