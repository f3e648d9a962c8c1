import { LEVELS } from "./columns.js";
import { heat } from "./theme.js";

/**
 * The heatmap's cells as a small picture: one pixel a column and row (or group of rows), stretched on drawing. Filled anew
 * each frame from the flat columns: about a millisecond, and pan, zoom and new data need no bookkeeping.
 */
export class HeatTexture {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.image = null;
    this.reference = 1;
    this.sampledAt = 0;
  }

  size(width, height) {
    if (this.image && this.image.width === width && this.image.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  /**
   * Columns [first, first + width) of `ring.stepMs` each, rows top…bottom (top is the highest); `per` rows share a pixel.
   * `liveFrom` is the bucket from which the current book holds.
   */
  fill(ring, first, width, top, height, per, book, liveFrom, liveTo, contrast) {
    this.size(width, height);
    const { pixels } = this;
    pixels.fill(heat[0]);
    const scale = (255 * 255) / (this.reference * Math.pow(1.5, -contrast));
    const last = first + width;
    let index = Math.max(0, ring.find(first * ring.stepMs + ring.stepMs / 2));
    for (; index < ring.length; index++) {
      const slot = ring.slot(index);
      const from = Math.max(first, Math.round(ring.t[slot] / ring.stepMs));
      if (from >= last) break;
      const next = index + 1 < ring.length ? Math.round(ring.t[ring.slot(index + 1)] / ring.stepMs) : liveFrom;
      const to = Math.min(last, Math.max(next, from + 1));
      if (to <= first) continue;
      const base = ring.base[slot];
      const at = slot * LEVELS * 2;
      this.strip(ring.offset, ring.size, at, ring.bids[slot], base, from, to, first, top, height, per, width, scale);
      this.strip(ring.offset, ring.size, at + LEVELS, ring.asks[slot], base, from, to, first, top, height, per, width, scale);
    }
    const from = Math.max(first, liveFrom);
    const to = Math.min(last, liveTo + 1);
    if (from < to) for (const side of [book.bids, book.asks]) this.levels(side.levels, from - first, to - first, top, height, per, width, scale);
    this.context.putImageData(this.image, 0, 0);
  }

  strip(offsets, sizes, at, n, base, from, to, first, top, height, per, width, scale) {
    const { pixels } = this;
    for (let k = at; k < at + n; k++) {
      const y = Math.floor((top - base - offsets[k]) / per);
      if (y < 0 || y >= height) continue;
      let color = Math.sqrt(sizes[k] * scale) | 0;
      color = heat[color > 255 ? 255 : color];
      let p = y * width + from - first;
      for (const end = p + to - from; p < end; p++) pixels[p] = per === 1 ? color : this.brighter(pixels[p], color);
    }
  }

  levels(levels, from, to, top, height, per, width, scale) {
    for (const level of levels) {
      const y = Math.floor((top - level.row) / per);
      if (y < 0 || y >= height) continue;
      const color = heat[Math.min(255, Math.sqrt(level.size * scale) | 0)];
      for (let p = y * width + from; p < y * width + to; p++) this.pixels[p] = color;
    }
  }

  /** With several rows a pixel the larger one shows; the ramp is monotone in red (dark) or falls in it (light). */
  brighter(a, b) {
    const up = (heat[255] & 255) >= (heat[0] & 255);
    const ra = (a & 255) + ((a >> 8) & 255);
    const rb = (b & 255) + ((b >> 8) & 255);
    return up === rb > ra ? b : a;
  }

  /** The size that gets the brightest colour: a high percentile of what lately stood in the book. */
  sample(ring, book, now) {
    if (now - this.sampledAt < 700) return;
    this.sampledAt = now;
    const sizes = [];
    const columns = Math.min(ring.length, 60);
    for (let c = 0; c < columns; c++) {
      const slot = ring.slot(ring.length - 1 - Math.floor((c * Math.min(ring.length, 600)) / columns));
      const at = slot * LEVELS * 2;
      for (let k = 0; k < Math.min(40, ring.bids[slot]); k += 3) sizes.push(ring.size[at + k]);
      for (let k = 0; k < Math.min(40, ring.asks[slot]); k += 3) sizes.push(ring.size[at + LEVELS + k]);
    }
    for (const side of [book.bids, book.asks]) for (const level of side.levels.slice(0, 40)) sizes.push(level.size);
    if (!sizes.length) return;
    sizes.sort((a, b) => a - b);
    const target = Math.max(1, sizes[Math.floor((sizes.length - 1) * 0.985)] * 1.15);
    this.reference = this.reference === 1 ? target : this.reference + (target - this.reference) * 0.2;
  }
}
