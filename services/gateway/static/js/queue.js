import { el, icon, setText } from "./dom.js";
import { compact, duration } from "./format.js";
import { draws } from "./frame.js";
import { get, segment } from "./api.js";
import { HttpProblem } from "./sse.js";

/** The queue of the chosen level, order by order, and where a tracked order stands. Below the ladder. */
const EVERY_MS = 200;
const MOST = 80;

export class Queue {
  constructor(root, app, tab) {
    Object.assign(this, { app, tab, at: 0 });
    this.input = el("input", { type: "search", inputmode: "numeric", placeholder: "Find an order by id", "aria-label": "Find an order by id", autocomplete: "off", spellcheck: "false" });
    this.answer = el("output", { class: "found" });
    this.title = el("h3", {});
    this.list = el("tbody");
    this.box = el("div", { class: "queue-box", hidden: true },
      el("header", { class: "panel-head" }, this.title, el("span", { class: "spring" }),
        el("button", { class: "tool small", "aria-label": "Close the queue", on: { click: () => app.state.set({ level: null }) } }, icon("close"))),
      el("div", { class: "queue-scroll", tabindex: "0", role: "region", "aria-label": "Orders of the level" },
        el("table", {}, el("thead", {}, el("tr", {}, ...["#", "order", "size", "ahead", "age"].map((t) => el("th", { scope: "col" }, t)))), this.list)));
    root.append(this.box, el("form", { class: "find", on: { submit: (e) => {
      e.preventDefault();
      this.track(this.input.value.trim());
    } } }, icon("search"), this.input, this.answer));
    this.stop = draws(this);
    this.input.addEventListener("input", () => this.input.value || this.track(""));
    this.unlisten = app.on("track", (id) => {
      this.input.value = id;
      this.track(id);
    });
    this.input.value = app.state.get("tracked") ?? "";
  }

  destroy() {
    this.stop();
    this.unlisten();
  }

  async track(id) {
    this.error = "";
    this.app.state.set({ tracked: id || null });
    const place = id && this.instrument.orders.place(id);
    if (place) this.app.emit("reveal", { tab: this.tab, px: place.order.px });
    if (!id || place || this.app.state.get("mode") === "replay") return;
    try {
      const order = await get(`orders/${segment(this.tab.spec)}/${encodeURIComponent(id)}`);
      this.error = `${order.size} @ ${order.price}, ${order.index} orders and ${order.ahead} ahead`;
    } catch (error) {
      this.error = error instanceof HttpProblem && error.status === 404 ? "not in this book: filled, cancelled or of another instrument" : error.message;
    }
  }

  get instrument() {
    return this.app.source.instrument(this.tab);
  }

  frame(now) {
    if (now - this.at < EVERY_MS) return;
    this.at = now;
    const i = this.instrument;
    const { tracked, level } = this.app.state.values;
    setText(this.answer, this.where(i, tracked));
    const mine = level && level.spec === this.tab.spec;
    if (this.box.hidden === Boolean(mine)) this.box.hidden = !mine;
    if (mine) this.show(i, level, tracked);
  }

  where(i, tracked) {
    if (!tracked) return "";
    const place = i.orders.place(tracked);
    if (!place) return this.error || "gone from the book";
    const { order, index, ahead, count } = place;
    return `${order.side === "B" ? "bid" : "ask"} ${order.size} @ ${order.price} · ${index + 1} of ${count} · ${ahead} ahead`;
  }

  show(i, level, tracked) {
    const prices = (level.side === "B" ? i.book.bids : i.book.asks).levels
      .filter((l) => (level.side === "B" ? Math.floor(l.row / level.group) : Math.ceil(l.row / level.group)) === level.row).map((l) => l.text);
    const orders = prices.flatMap((price) => i.orders.queue(level.side, price));
    const total = orders.reduce((sum, o) => sum + o.size, 0);
    const price = i.grid.ready ? i.grid.text(level.row * level.group) : "";
    setText(this.title, i.orders.ready ? `${level.side === "B" ? "Bid" : "Ask"} ${price} · ${orders.length} orders · ${compact(total)}` : `${price}: turn on orders (Q)`);
    let ahead = 0;
    const rows = orders.slice(0, MOST).map((o, k) => {
      const row = [String(k + 1), o.id, compact(o.size), compact(ahead), o.ms > 1 ? duration(Math.max(0, i.ms - o.ms)) : "–"];
      ahead += o.size;
      return [o.id, row];
    });
    while (this.list.children.length > rows.length) this.list.lastChild.remove();
    for (const [k, [id, cells]] of rows.entries()) {
      let tr = this.list.children[k];
      if (!tr) {
        tr = el("tr", {}, ...cells.map(() => el("td")));
        tr.addEventListener("click", () => this.app.emit("track", tr.dataset.id));
        this.list.append(tr);
      }
      tr.dataset.id = id;
      tr.classList.toggle("tracked", id === tracked);
      for (const [n, text] of cells.entries()) setText(tr.children[n], text);
    }
  }
}
