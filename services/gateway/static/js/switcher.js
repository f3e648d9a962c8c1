import { dialog } from "./dialog.js";
import { el, icon } from "./dom.js";

/** Find an instrument among thousands: type, arrows, Enter opens it, Shift+Enter puts it on the watch list. */
const WAIT_MS = 110;
const SHOWN = 60;

export class Switcher {
  constructor(app) {
    this.app = app;
    this.rows = [];
    this.index = 0;
    this.input = el("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "switcher-list", "aria-autocomplete": "list", "aria-label": "Search instruments",
      placeholder: "Symbol, e.g. CLX5, or an instrument id", autocomplete: "off", spellcheck: "false" });
    this.list = el("ul", { id: "switcher-list", role: "listbox", "aria-label": "Instruments" });
    this.count = el("p", { class: "dim", role: "status" });
    this.box = dialog("switcher", "Open an instrument", el("div", { class: "search-row" }, icon("search"), this.input), this.list, this.count);
    this.input.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.search(), WAIT_MS);
    });
    this.input.addEventListener("keydown", (event) => this.key(event));
    app.on("switcher", () => this.open());
  }

  open() {
    if (this.box.open) return;
    this.input.value = "";
    this.box.showModal();
    this.input.focus();
    this.search();
  }

  async search() {
    this.abort?.abort();
    this.abort = new AbortController();
    const text = this.input.value.trim();
    try {
      const { instruments, total } = await this.app.catalogue.search(text, { limit: SHOWN, signal: this.abort.signal });
      this.rows = instruments;
      this.index = Math.max(0, instruments.findIndex((i) => i.symbol.toLowerCase() === text.toLowerCase()));
      this.count.textContent = total ? `${total.toLocaleString("en-US")} ${total === 1 ? "instrument" : "instruments"}${total > instruments.length ? `, the first ${instruments.length} are shown` : ""}` : `nothing is called “${text}”`;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.rows = [];
      this.count.textContent = error.message;
    }
    this.draw();
  }

  draw() {
    this.list.replaceChildren(...this.rows.map((row, k) => {
      const watched = this.app.state.get("watch").includes(this.spec(row));
      return el("li", { role: "option", id: `option-${k}`, "aria-selected": String(k === this.index), class: watched ? "watched" : null,
        on: { click: (event) => (event.target.closest(".star") ? this.watch(row) : this.choose(row)), pointermove: () => this.mark(k) } },
        el("strong", {}, row.symbol), el("span", { class: "dim" }, row.dataset), el("span", { class: "dim" }, `id ${row.instrument_id}`),
        el("span", { class: "dim tick" }, row.tick_size ? `tick ${row.tick_size}` : ""),
        el("span", { class: "star", title: "Watch (Shift+Enter)" }, watched && el("span", { class: "sr" }, "watched"), icon("star")));
    }));
    this.mark(this.index);
  }

  mark(index) {
    this.index = index;
    for (const [k, li] of [...this.list.children].entries()) li.setAttribute("aria-selected", String(k === index));
    this.list.children[index]?.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", `option-${index}`);
  }

  /** The plain symbol where it is enough, with its dataset where another has the same. */
  spec(row) {
    const same = this.app.catalogue.bySpec.get(row.symbol);
    return !same || (same.dataset === row.dataset && same.instrument_id === row.instrument_id) ? row.symbol : `${row.dataset}:${row.symbol}`;
  }

  choose(row) {
    this.box.close();
    this.app.state.open(this.spec(row));
  }

  watch(row) {
    const spec = this.spec(row);
    const watch = this.app.state.get("watch");
    this.app.state.set({ watch: watch.includes(spec) ? watch.filter((s) => s !== spec) : [...watch, spec] });
    this.draw();
  }

  key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (by) this.mark(Math.max(0, Math.min(this.rows.length - 1, this.index + by)));
    else if (event.key === "Enter" && this.rows[this.index]) (event.shiftKey ? this.watch(this.rows[this.index]) : this.choose(this.rows[this.index]));
    else return;
    event.preventDefault();
  }
}
