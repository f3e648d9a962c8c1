import { $, el, setClass, setText } from "./dom.js";
import { compact } from "./format.js";
import { draws } from "./frame.js";
import { formatPrice } from "./price.js";

/** The strip of figures of the active instrument: last, BBO, spread, mid, microprice, imbalance, volume, auction. */
export class Figures {
  constructor(app) {
    this.app = app;
    const figure = (name, title) => {
      const value = el("dd", {}, "–");
      return [el("div", { class: `figure ${name}`, title }, el("dt", {}, name), value), value];
    };
    this.symbol = el("h1", { class: "symbol" }, "–");
    this.about = el("span", { class: "about" }, "");
    this.last = el("output", { class: "last", "aria-label": "Last trade", "aria-live": "off" }, "–");
    const list = el("dl", { class: "figure-list" });
    for (const [name, title] of [["bid", "Best bid: price, size"], ["ask", "Best offer: price, size"], ["spread", "Ask − bid"],
      ["mid", "Middle of bid and ask"], ["micro", "Microprice: mid weighted by the size on the other side"], ["volume", "Traded since the page opened this session: bought, sold"]]) {
      const [node, value] = figure(name, title);
      this[name] = value;
      list.append(node);
    }
    this.needle = el("span", { class: "needle" });
    this.imbalance = el("output", { "aria-live": "off" }, "–");
    list.append(el("div", { class: "figure imbalance", title: "Imbalance of the five best levels: (bids − asks) ÷ both" }, el("dt", {}, "imbalance"),
      el("dd", {}, el("span", { class: "gauge", "aria-hidden": "true" }, this.needle), this.imbalance)));
    this.auction = el("div", { class: "auction", hidden: true });
    $("#figures").append(el("div", { class: "title" }, this.symbol, this.about), this.last, list, this.auction, el("div", { id: "badges", class: "badges" }));
    draws(this);
  }

  frame(now, beat) {
    if (!beat) return;
    const tab = this.app.state.activeTab;
    if (!tab) return;
    const i = this.app.source.instrument(tab);
    const f = i.figures();
    const places = i.grid.places;
    const px = (nanos) => (nanos === null ? "–" : formatPrice(nanos, places));
    setText(this.symbol, i.symbol);
    setText(this.about, [i.dataset, tab.publisher === null ? null : `publisher ${tab.publisher}`].filter(Boolean).join(" · "));
    const { last, direction } = i.trades;
    setText(this.last, last?.px != null ? `${direction > 0 ? "▲" : direction < 0 ? "▼" : ""} ${px(last.px)}` : "–");
    setClass(this.last, `last ${direction > 0 ? "up" : direction < 0 ? "down" : ""}`);
    const none = i.ms ? "none" : "–";
    setText(this.bid, f.bid ? `${px(f.bid.px)} × ${compact(f.bid.size)}` : none);
    setText(this.ask, f.ask ? `${px(f.ask.px)} × ${compact(f.ask.size)}` : none);
    setText(this.spread, f.spread === null ? "–" : formatPrice(f.spread, places));
    setText(this.mid, f.mid === null ? "–" : formatPrice(f.mid, places));
    setText(this.micro, f.micro === null ? "–" : f.micro.toFixed(Math.min(9, places + 1)));
    setText(this.volume, `${compact(i.trades.volume)}  ${compact(i.trades.buys)}↑ ${compact(i.trades.sells)}↓`);
    setText(this.imbalance, f.imbalance === null ? "–" : `${f.imbalance > 0 ? "+" : ""}${Math.round(f.imbalance * 100)} %`);
    const share = f.imbalance ?? 0;
    this.needle.style.transform = `scaleX(${Math.abs(share).toFixed(3)})`;
    setClass(this.needle, `needle ${share < 0 ? "sell" : "buy"}`);
    const { auction, crossed } = i.book;
    this.auction.hidden = !auction && !crossed;
    if (auction) setText(this.auction, `Auction · indicative ${formatPriceText(auction.price, places)} × ${compact(auction.size)}`);
    else if (crossed) setText(this.auction, i.book.venues?.length > 1 ? "Venues cross · shown as it is" : "Crossed book · shown as it is");
    const venues = (i.book.venues ?? []).map((v) => `publisher ${v.publisher_id}: ${v.bid ? `${v.bid[0]} × ${v.bid[1]}` : "no bid"} / ${v.ask ? `${v.ask[0]} × ${v.ask[1]}` : "no ask"}`).join("\n");
    if (this.auction.title !== venues) this.auction.title = venues;
    const title = last?.px != null ? `${px(last.px)} ${i.symbol} · mbostream` : `${i.symbol} · mbostream`;
    if (document.title !== title) document.title = title;
  }
}

function formatPriceText(text, places) {
  const [whole, fraction = ""] = text.split(".");
  return places ? `${whole}.${fraction.padEnd(places, "0")}` : text;
}
