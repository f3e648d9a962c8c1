import { floorDiv, formatPrice, gcd, placesOf } from "./price.js";

/**
 * The tick grid of an instrument: row number ⇄ exact price. Rows are Numbers counted from an origin near the market, so
 * they stay exact whatever the price is; a price off the grid makes the tick finer (`fit` tells, rows then change).
 */
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
    let changed = false;
    for (const px of prices) {
      if (this.origin === null) {
        this.origin = this.tick === null ? px : floorDiv(px, this.tick) * this.tick;
        changed = true;
      }
      const off = px - this.origin;
      if (this.tick === null) {
        if (off !== 0n) {
          this.tick = off < 0n ? -off : off;
          changed = true;
        }
      } else if (off % this.tick !== 0n) {
        this.tick = gcd(this.tick, off);
        changed = true;
      }
    }
    if (changed) this.version++;
    return changed;
  }

  holds(px) {
    return this.ready && (px - this.origin) % this.tick === 0n;
  }

  row(px) {
    return this.tick === null ? 0 : Number(floorDiv(px - this.origin, this.tick));
  }

  price(row) {
    return this.origin + BigInt(Math.round(row)) * (this.tick ?? 1n);
  }

  text(row) {
    return formatPrice(this.price(row), this.places);
  }
}
