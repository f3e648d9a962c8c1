import { apiUrl } from "./api.js";
import { el, icon, keepFocus, setText, svg } from "./dom.js";
import { draws } from "./frame.js";
import { parsePrice, toNumber } from "./price.js";
import { Stream } from "./stream.js";
import { matches } from "./tabs_key.js";
import { Views } from "./views.js";

/** The watch list: best prices of many instruments on one stream (bbo, two a second), a short line of where each went. */
const INTERVAL_MS = 500;
const POINTS = 60;

class Quote {
  constructor(spec) {
    this.spec = spec;
    this.points = [];
    this.version = 0;
  }

  onHello() {}

  onBbo(e) {
    this.bbo = e;
    if (e.bid && e.ask) {
      this.points.push(toNumber(parsePrice(e.bid[0]) + parsePrice(e.ask[0])) / 2);
      if (this.points.length > POINTS) this.points.shift();
    }
    this.version++;
  }
}

export class Watch {
  constructor(root, app) {
    this.app = app;
    this.quotes = new Map();
    this.rows = new Map();
    this.list = el("ul", { class: "watch-list" });
    this.empty = el("p", { class: "hint" }, "Nothing is watched yet. Press / and then Shift+Enter on an instrument, or use the star.");
    this.add = el("button", { class: "link", on: { click: () => this.watchActive() } }, "Watch the open instrument");
    root.append(this.list, this.empty, this.add);
    app.state.on(["watch", "side", "sideTab"], () => this.sync());
    app.state.on(["active", "tabs"], () => keepFocus(root, () => this.draw()));
    app.on("connection", ({ phase }) => phase === "open" && this.again());
    document.addEventListener("visibilitychange", () => this.sync());
    this.sync();
    draws(this);
  }

  watchActive() {
    const tab = this.app.state.activeTab;
    const watch = this.app.state.get("watch");
    if (tab && !watch.includes(tab.spec)) this.app.state.set({ watch: [...watch, tab.spec] });
  }

  get wanted() {
    const { state } = this.app;
    return state.get("side") && state.get("sideTab") === "watch" && !document.hidden ? state.get("watch") : [];
  }

  sync() {
    const symbols = this.wanted.filter((s) => !this.missing?.has(s)).join(",");
    if (symbols !== this.symbols) {
      this.symbols = symbols;
      this.stream?.stop();
      this.stream = null;
      if (symbols) this.open(symbols);
    }
    this.draw();
  }

  open(symbols) {
    const views = new Views({ find: (v) => this.quote(this.app.state.get("watch").find((spec) => matches({ spec, publisher: null }, v))), lost: () => {} });
    this.stream = new Stream({
      url: () => apiUrl("stream", { symbols, channels: "bbo", interval: INTERVAL_MS }),
      onEvent: (event, e) => views.apply(event, e),
      onState: (state) => state.phase === "closed" && state.reason === "http-404" && this.prune(),
    });
    this.stream.start();
  }

  /** One unknown symbol fails the whole request: find which, and go on without it. */
  async prune() {
    this.missing = new Set(await this.app.catalogue.missing(this.app.state.get("watch")).catch(() => []));
    this.symbols = null;
    if (this.missing.size) this.sync();
  }

  /** The gateway is back, or lets us in now: what it refused is asked anew. */
  again() {
    if (this.stream?.phase !== "closed" && !this.missing?.size) return;
    this.missing = null;
    this.symbols = null;
    this.sync();
  }

  quote(spec) {
    if (!spec) return null;
    if (!this.quotes.has(spec)) this.quotes.set(spec, new Quote(spec));
    return this.quotes.get(spec);
  }

  draw() {
    const watch = this.app.state.get("watch");
    this.empty.hidden = watch.length > 0;
    const active = this.app.state.activeTab?.spec;
    this.add.hidden = !active || watch.includes(active);
    this.rows.clear();
    this.list.replaceChildren(...watch.map((spec) => {
      const price = el("span", { class: "price" }, this.missing?.has(spec) ? "not here now" : "–");
      const line = svg("polyline", { points: "" });
      this.rows.set(spec, { price, line, version: -1 });
      return el("li", { class: spec === active ? "active" : "" },
        el("button", { class: "watch-open", on: { click: () => this.app.state.open(spec) } },
          el("span", { class: "name" }, spec), svg("svg", { class: "spark", viewBox: "0 0 60 16", preserveAspectRatio: "none", "aria-hidden": "true" }, line),
          el("span", { class: "figures2" }, price)),
        el("button", { class: "tool small remove", "aria-label": `Stop watching ${spec}`, on: { click: () => this.app.state.set({ watch: watch.filter((s) => s !== spec) }) } }, icon("close")));
    }));
  }

  frame(now) {
    if (now - (this.at ?? 0) < 200) return;
    this.at = now;
    for (const [spec, row] of this.rows) {
      const q = this.quotes.get(spec);
      if (!q?.bbo || q.version === row.version) continue;
      row.version = q.version;
      const { bid, ask } = q.bbo;
      setText(row.price, bid && ask ? `${bid[0]} × ${ask[0]}` : bid ? `${bid[0]} × none` : ask ? `none × ${ask[0]}` : "empty");
      const p = q.points;
      const [low, high] = [Math.min(...p), Math.max(...p)];
      row.line.setAttribute("points", p.map((v, k) => `${(60 - ((p.length - 1 - k) / (POINTS - 1)) * 60).toFixed(1)},${high > low ? 15 - ((v - low) / (high - low)) * 14 : 8}`).join(" "));
      const up = p.at(-1) - p[0];
      row.line.parentNode.setAttribute("class", `spark ${up > 0 ? "up" : up < 0 ? "down" : ""}`);
    }
  }
}
