import { get } from "./api.js";
import { el, icon } from "./dom.js";

/** The market tree: dataset → venue → instruments, read page by page as it is opened. */
const PAGE = 100;

export class Tree {
  constructor(root, app) {
    this.app = app;
    this.filter = el("input", { type: "search", placeholder: "Filter instruments", "aria-label": "Filter instruments", autocomplete: "off", spellcheck: "false" });
    this.root = el("ul", { class: "tree" });
    root.append(el("div", { class: "search-row small" }, icon("search"), this.filter), this.root);
    this.filter.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.refill(), 150);
    });
    app.state.on("sideTab", () => this.load());
    this.open = new Map();
    this.load();
  }

  async load() {
    if (this.loaded || this.app.state.get("sideTab") !== "markets") return;
    this.loaded = true;
    try {
      const [{ instruments }, pipeline] = await Promise.all([this.app.catalogue.search("", { limit: 1000 }), get("pipeline").catch(() => ({ feeds: [] }))]);
      const datasets = new Map(pipeline.feeds.map((f) => [f.dataset, new Set()]));
      for (const row of instruments) {
        if (!datasets.has(row.dataset)) datasets.set(row.dataset, new Set());
        for (const p of row.publishers) datasets.get(row.dataset).add(p);
      }
      this.root.replaceChildren(...[...datasets].sort().map(([name, publishers], k) => this.dataset(name, [...publishers].sort((a, b) => a - b), k === 0)));
    } catch (error) {
      this.loaded = false;
      this.root.replaceChildren(el("li", { class: "hint" }, error.message));
    }
  }

  branch(name, detail, open, fill) {
    const list = el("ul", { hidden: !open });
    const button = el("button", { class: "branch", "aria-expanded": String(open), on: { click: () => {
      list.hidden = !list.hidden;
      button.setAttribute("aria-expanded", String(!list.hidden));
      if (!list.hidden) fill(list);
    } } }, icon("chevron"), el("span", {}, name), el("span", { class: "dim" }, detail));
    if (open) fill(list);
    return el("li", {}, button, list);
  }

  dataset(name, publishers, open) {
    if (publishers.length < 2) return this.branch(name, publishers.length ? `publisher ${publishers[0]}` : "", open, (list) => this.fill(list, name, null));
    return this.branch(name, `${publishers.length} venues`, open, (list) => list.replaceChildren(
      this.branch("All venues", "consolidated", false, (inner) => this.fill(inner, name, null)),
      ...publishers.map((p) => this.branch(`Publisher ${p}`, "", false, (inner) => this.fill(inner, name, p)))));
  }

  refill() {
    for (const [list, [dataset, publisher]] of this.open) if (list.isConnected && !list.hidden) this.fill(list, dataset, publisher);
  }

  async fill(list, dataset, publisher, after = null) {
    this.open.set(list, [dataset, publisher]);
    const asked = this.filter.value.trim();
    try {
      const answer = await this.app.catalogue.search(asked, { limit: PAGE, dataset, after });
      if (asked !== this.filter.value.trim()) return;
      const rows = answer.instruments.filter((r) => publisher === null || r.publishers.includes(publisher)).map((row) => el("li", {},
        el("button", { class: "leaf", on: { click: () => this.app.state.open(this.app.switcher.spec(row), publisher) } }, el("span", {}, row.symbol), row.stale && el("span", { class: "dim" }, "stale"))));
      const more = answer.next && el("li", {}, el("button", { class: "link", on: { click: (e) => {
        e.target.parentNode.remove();
        this.fill(list, dataset, publisher, answer.next);
      } } }, `more of ${answer.total.toLocaleString("en-US")}`));
      if (after === null) list.replaceChildren();
      list.append(...rows, ...(more ? [more] : []));
      if (!list.children.length) list.append(el("li", { class: "hint" }, "none"));
    } catch (error) {
      list.replaceChildren(el("li", { class: "hint" }, error.message));
    }
  }
}
