import { compact, grouped } from "./format.js";
import { formatPrice, parsePrice } from "./price.js";
import { colors, reducedMotion } from "./theme.js";

/** How a ladder looks: columns, rows, bars or queues, spread. What it shows and obeys is ladder.js, which extends this. */
export const ROW = 20;
export const HEAD = 22;
export const FLASH_MS = 450;

export class LadderPaint {
  layout(w) {
    const { state } = this.app;
    const count = w >= 280 ? 34 : 0;
    const price = Math.max(72, Math.min(150, 24 + (this.placesWidth ?? 6) * 7.4));
    const profile = state.get("profile") && w >= 330 ? Math.round(Math.min(110, w * 0.19)) : 0;
    const wing = (w - price - count * 2 - profile) / 2;
    return { count, price, profile, wing, bidX: count, priceX: count + wing, askX: count + wing + price, askCountX: count + wing * 2 + price, profileX: count * 2 + wing * 2 + price };
  }

  draw(c, i, wall) {
    const { width: w, height: h } = this.canvas;
    c.fillStyle = colors.panel;
    c.fillRect(0, 0, w, h);
    if (!i.grid.ready && !i.book.bid && !i.book.ask) return this.empty(c, i, w, h);
    const n = Math.ceil((h - HEAD) / ROW / 2) + 1;
    const mid = Math.round(this.center);
    this.rows.fill(i, this.group, mid - n, mid + n, this.app.state.get("cumulative"));
    const longest = Math.max(this.priceText(mid + n).length, this.priceText(mid - n).length);
    this.placesWidth = longest;
    const x = this.layout(w);
    const target = Math.max(1, this.rows.largest);
    this.scale = target > this.scale ? target : this.scale + (target - this.scale) * 0.05;
    c.font = `500 12px ${colors.mono}`;
    c.textBaseline = "middle";
    const queues = this.app.state.get("queues") && i.orders.ready && !this.app.state.get("cumulative");
    const lastRow = i.trades.last?.px != null ? Math.floor(i.trades.last.row / this.group) : null;
    const auction = i.book.auction && parsePrice(i.book.auction.price);
    this.auctionRow = auction && i.grid.ready ? Math.floor(i.grid.row(auction) / this.group) : null;
    const centerY = HEAD + (h - HEAD) / 2;
    c.save();
    c.beginPath();
    c.rect(0, HEAD, w, h - HEAD);
    c.clip();
    for (let row = mid - n; row <= mid + n; row++) {
      const y = centerY - (row - this.center) * ROW - ROW / 2;
      if (y > h || y < HEAD - ROW) continue;
      this.drawRow(c, i, x, row, y, w, wall, queues, lastRow);
    }
    this.drawSpread(c, i, x, centerY, w);
    c.restore();
    this.drawHead(c, x, w);
    return undefined;
  }

  empty(c, i, w, h) {
    c.fillStyle = colors.muted;
    c.font = `13px ${colors.sans}`;
    c.textAlign = "center";
    c.fillText(i.session === null ? "waiting for the book…" : "the book is empty", w / 2, h / 2);
  }

  drawHead(c, x, w) {
    c.fillStyle = colors.raised;
    c.fillRect(0, 0, w, HEAD);
    c.fillStyle = colors.line;
    c.fillRect(0, HEAD - 1, w, 1);
    c.font = `500 10.5px ${colors.sans}`;
    c.fillStyle = colors.muted;
    const y = HEAD / 2;
    const sum = this.app.state.get("cumulative") ? "Σ " : "";
    if (x.count) {
      c.textAlign = "right";
      c.fillText("orders", x.count + 2, y);
      c.textAlign = "left";
      c.fillText("orders", x.askCountX - 2, y);
    }
    c.textAlign = "right";
    c.fillText(`${sum}bid`, x.priceX - 6, y);
    c.textAlign = "center";
    c.fillText("price", x.priceX + x.price / 2, y);
    c.textAlign = "left";
    c.fillText(`${sum}ask`, x.askX + 6, y);
    if (x.profile) {
      c.textAlign = "right";
      c.fillText("traded", w - 6, y);
    }
  }

  drawRow(c, i, x, row, y, w, wall, queues, lastRow) {
    const at = this.rows.at(row);
    const top = y + 0.5;
    const middle = y + ROW / 2 + 0.5;
    if (row === this.selected || row === this.hover) {
      c.fillStyle = row === this.selected ? colors.accentSoft : colors.hover;
      c.fillRect(0, y, w, ROW);
    }
    c.fillStyle = colors.raised;
    c.fillRect(x.priceX, y, x.price, ROW);
    c.fillStyle = colors.line;
    c.fillRect(0, top + ROW - 1, w, 0.5);
    if (at?.bid) this.drawWing(c, i, at, "B", x.priceX, x.wing, -1, y, middle, queues, wall);
    if (at?.ask) this.drawWing(c, i, at, "A", x.askX, x.wing, 1, y, middle, queues, wall);
    if (x.count && at) {
      c.font = `11px ${colors.mono}`;
      c.fillStyle = colors.muted;
      c.textAlign = "right";
      if (at.bids) c.fillText(compact(at.bids), x.count - 4, middle);
      c.textAlign = "left";
      if (at.asks) c.fillText(compact(at.asks), x.askCountX + 4, middle);
    }
    c.font = `${lastRow === row ? 700 : 500} 12px ${colors.mono}`;
    c.textAlign = "center";
    const best = at && ((at.bid && row === this.rows.bestBid) || (at.ask && row === this.rows.bestAsk));
    c.fillStyle = best ? (row === this.rows.bestBid ? colors.bid : colors.ask) : at ? colors.text : colors.muted;
    if (lastRow === row) {
      c.fillStyle = colors.accent;
      c.fillRect(x.priceX + 2, y + 2, x.price - 4, ROW - 3);
      c.fillStyle = colors.onAccent;
    }
    c.fillText(this.priceText(row), x.priceX + x.price / 2, middle);
    if (row === this.auctionRow) {
      c.strokeStyle = colors.accent;
      c.lineWidth = 1.5;
      c.strokeRect(x.priceX + 1.5, y + 1.5, x.price - 3, ROW - 3);
    }
    if (x.profile) this.drawTraded(c, at, x, y, middle, w);
  }

  drawWing(c, i, at, side, edge, wing, dir, y, middle, queues, wall) {
    const bid = side === "B";
    const size = bid ? at.bid : at.ask;
    const shown = this.app.state.get("cumulative") ? (bid ? at.bidSum : at.askSum) : size;
    const room = wing - 4;
    const length = Math.max(1.5, (Math.min(shown, this.scale) / this.scale) * room);
    const changedAt = bid ? at.bidAt : at.askAt;
    const change = bid ? at.bidChange : at.askChange;
    const age = wall - changedAt;
    if (age < FLASH_MS && !reducedMotion.matches) {
      c.globalAlpha = (1 - age / FLASH_MS) * (change > 0 ? 0.24 : 0.07);
      c.fillStyle = change > 0 ? (bid ? colors.bid : colors.ask) : colors.text;
      c.fillRect(dir < 0 ? edge - wing : edge, y, wing, ROW - 0.5);
      c.globalAlpha = 1;
    }
    if (queues) this.drawQueue(c, i, at, side, edge, length, shown, dir, y);
    else {
      c.fillStyle = bid ? colors.bidSoft : colors.askSoft;
      c.fillRect(dir < 0 ? edge - length : edge, y + 1.5, length, ROW - 3);
      c.fillStyle = bid ? colors.bid : colors.ask;
      c.fillRect(dir < 0 ? edge - 2 : edge, y + 1.5, 2, ROW - 3);
    }
    c.font = `500 12px ${colors.mono}`;
    c.fillStyle = colors.text;
    c.textAlign = dir < 0 ? "right" : "left";
    const text = compact(shown);
    const inside = edge + dir * 7;
    if (queues) {
      const beyond = edge + dir * (length + 5);
      const fits = length + 10 + text.length * 7.3 < wing;
      if (!fits) {
        c.fillStyle = colors.panel;
        c.globalAlpha = 0.72;
        c.fillRect(dir < 0 ? edge - wing + 1 : edge + wing - text.length * 7.3 - 7, y + 2, text.length * 7.3 + 6, ROW - 4);
        c.globalAlpha = 1;
        c.fillStyle = colors.text;
        c.textAlign = dir < 0 ? "left" : "right";
        c.fillText(text, edge + dir * (wing - 4), middle);
      } else c.fillText(text, beyond, middle);
    } else c.fillText(text, inside, middle);
  }

  /** Each order a cell as wide as its share of the level; the tracked order is ringed. */
  drawQueue(c, i, at, side, edge, length, shown, dir, y) {
    const bid = side === "B";
    const tracked = this.app.state.get("tracked");
    c.fillStyle = bid ? colors.bid : colors.ask;
    const per = length / (shown || 1);
    let from = 0;
    let drawn = 0;
    let drawnTo = 0;
    for (const price of bid ? at.bidPrices : at.askPrices) {
      const level = i.orders.level(side, price);
      if (!level) continue;
      for (const order of level.values()) {
        const width = order.size * per;
        const x0 = from;
        from += width;
        if (x0 >= length) break; // an uncrossed level publishes less than rests there
        from = Math.min(from, length);
        if (from - drawnTo < 1.2 && order.id !== tracked) continue;
        if (++drawn > 400) break;
        const age = Math.max(0, i.ms - order.ms);
        c.globalAlpha = 0.22 + 0.62 * Math.max(0, 1 - Math.log10(1 + age / 250) / 4);
        const gap = width > 3 ? 1 : 0;
        const x = dir < 0 ? edge - from + gap : edge + x0;
        c.fillRect(x, y + 2, Math.max(1, from - Math.max(x0, drawnTo) - gap), ROW - 4);
        drawnTo = from;
        if (order.id === tracked) {
          c.globalAlpha = 1;
          c.strokeStyle = colors.accent;
          c.lineWidth = 2;
          c.strokeRect(dir < 0 ? edge - from : edge + x0, y + 2, Math.max(5, width), ROW - 4);
        }
      }
    }
    c.globalAlpha = 1;
  }

  drawTraded(c, at, x, y, middle, w) {
    if (!at?.traded) return;
    const room = x.profile - 6;
    const length = (at.traded / (this.rows.mostTraded || 1)) * room;
    const sold = (at.sold / at.traded) * length;
    c.globalAlpha = 0.4;
    c.fillStyle = colors.ask;
    c.fillRect(w - 2 - sold, y + 3, sold, ROW - 6);
    c.fillStyle = colors.bid;
    c.fillRect(w - 2 - length, y + 3, length - sold, ROW - 6);
    c.globalAlpha = 1;
    c.font = `11px ${colors.mono}`;
    c.fillStyle = colors.text;
    c.textAlign = "right";
    c.fillText(compact(at.traded), w - 6, middle);
  }

  drawSpread(c, i, x, centerY, w) {
    const { bestBid, bestAsk } = this.rows;
    if (bestBid === null || bestAsk === null) return;
    const top = centerY - (bestAsk - this.center) * ROW + ROW / 2;
    const bottom = centerY - (bestBid - this.center) * ROW - ROW / 2;
    c.fillStyle = colors.lineStrong;
    c.fillRect(0, top - 0.5, w - x.profile, 1);
    if (bottom - top > 1) c.fillRect(0, bottom - 0.5, w - x.profile, 1);
    if (bottom - top < ROW - 1) return;
    const { bid, ask } = i.book;
    const ticks = Math.abs(ask.row - bid.row);
    c.font = `500 11px ${colors.sans}`;
    c.fillStyle = colors.muted;
    c.textAlign = "right";
    const middle = (top + bottom) / 2;
    const spread = formatPrice(ask.px - bid.px, i.grid.places);
    const room = x.priceX - 14;
    c.fillText([`spread ${spread}`, spread].find((t) => c.measureText(t).width < room) ?? "", x.priceX - 7, middle);
    c.textAlign = "left";
    c.fillText(`${grouped(ticks)} ${ticks === 1 ? "tick" : "ticks"}`, x.askX + 7, middle);
  }
}
