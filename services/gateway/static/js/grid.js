import { floorDiv, formatPrice, gcd, placesOf } from "./price.js";

/**
 * The tick grid of an instrument: row number ⇄ exact price. Prices are multiples of the tick; rows are Numbers counted from
 * an origin near the market (a multiple of a million ticks, so that groups of rows are round prices), so they stay exact
 * whatever the price is. A price off the grid makes the tick finer: `fit` tells, rows computed before are then void.
 */
const BLOCK = 1_000_000n;

export class Grid {
  constructor(tick = null) {
    this.tick = tick;
    this.origin = null;
    this.version = 0;
  }

  get ready() {
    return this.tick !== null && this.origin !== null;
  }

  get places() {
    return this.tick === null ? 0 : placesOf(this.tick);
  }

  /** Makes every price of `prices` a row. Returns true when rows computed before are void. */
  fit(prices) {
    let { tick } = this;
    let first = null;
    for (const px of prices) {
      first ??= px;
      if (tick === null) tick = px < 0n ? -px : px || null;
      else if (px % tick !== 0n) tick = gcd(tick, px);
    }
    if (first === null || tick === null || (tick === this.tick && this.origin !== null)) return false;
    this.tick = tick;
    this.origin = floorDiv(this.origin ?? first, tick * BLOCK) * tick * BLOCK;
    this.version++;
    return true;
  }

  holds(px) {
    return this.ready && px % this.tick === 0n;
  }

  row(px) {
    return this.ready ? Number(floorDiv(px - this.origin, this.tick)) : 0;
  }

  price(row) {
    return this.origin + BigInt(Math.round(row)) * this.tick;
  }

  text(row) {
    return formatPrice(this.price(row), this.places);
  }
}
