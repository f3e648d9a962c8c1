import { el } from "./dom.js";
import { clock, compact } from "./format.js";

/** A month by month calendar of what is recorded; choosing a day (or one of its sessions) calls back with its row. */
export class Calendar {
  constructor(button, { rows, onPick }) {
    this.rows = rows;
    this.onPick = onPick;
    this.month = null;
    this.box = el("div", { class: "popover calendar", id: "calendar", popover: "auto", "aria-label": "Recorded days" });
    document.body.append(this.box);
    this.box.addEventListener("toggle", (event) => event.newState === "open" && this.open(button));
  }

  open(button) {
    const days = this.rows();
    this.month ??= (days[0]?.date ?? new Date().toISOString()).slice(0, 7);
    this.draw();
    const box = button.getBoundingClientRect();
    this.box.style.left = `${Math.max(8, Math.min(box.left, innerWidth - this.box.offsetWidth - 8))}px`;
    this.box.style.top = `${box.top - this.box.offsetHeight - 8}px`;
    this.box.querySelector("button:not(:disabled)")?.focus();
  }

  move(by) {
    const [y, m] = this.month.split("-").map(Number);
    this.month = new Date(Date.UTC(y, m - 1 + by, 1)).toISOString().slice(0, 7);
    this.draw();
  }

  draw() {
    const byDate = Map.groupBy ? Map.groupBy(this.rows(), (d) => d.date) : group(this.rows());
    const [y, m] = this.month.split("-").map(Number);
    const first = new Date(Date.UTC(y, m - 1, 1));
    const cells = [];
    for (let k = (first.getUTCDay() + 6) % 7; k > 0; k--) cells.push(el("span"));
    const most = Math.max(1, ...this.rows().map((d) => d.records));
    for (let d = new Date(first); d.getUTCMonth() === m - 1; d.setUTCDate(d.getUTCDate() + 1)) {
      const date = d.toISOString().slice(0, 10);
      const rows = byDate.get(date);
      const records = rows?.reduce((sum, r) => sum + r.records, 0) ?? 0;
      const button = el("button", { disabled: !rows, title: rows ? `${compact(records)} records` : "nothing recorded", "aria-label": `${date}${rows ? `, ${compact(records)} records` : ""}`,
        on: { click: () => this.pick(rows[0]) } }, String(d.getUTCDate()));
      if (rows) {
        button.classList.add("has");
        button.style.setProperty("--share", String(0.15 + 0.5 * Math.sqrt(records / most)));
      }
      cells.push(button);
    }
    const sessions = this.rows().filter((d) => d.date.startsWith(this.month)).slice(0, 40);
    this.box.replaceChildren(
      el("header", {}, el("button", { class: "tool small", "aria-label": "Earlier month", on: { click: () => this.move(-1) } }, "‹"),
        el("strong", {}, first.toLocaleDateString("en", { month: "long", year: "numeric", timeZone: "UTC" })),
        el("button", { class: "tool small", "aria-label": "Later month", on: { click: () => this.move(1) } }, "›")),
      el("div", { class: "weekdays", "aria-hidden": "true" }, ..."MTWTFSS".split("").map((t) => el("span", {}, t))),
      el("div", { class: "month" }, ...cells),
      el("ul", { class: "sessions" }, ...sessions.map((d) => el("li", {}, el("button", { on: { click: () => this.pick(d) } },
        el("span", {}, d.date.slice(5)), el("span", {}, `${clock(Number(d.first / 1_000_000n)).slice(0, 5)} – ${clock(Number(d.last / 1_000_000n)).slice(0, 5)}`),
        el("span", {}, `${compact(d.records)} rec`), el("span", { class: "dim" }, `session ${d.session}`))))));
    if (!this.rows().length) this.box.append(el("p", { class: "dim" }, "Nothing is recorded of this instrument yet. The persist service writes what the book services see."));
  }

  pick(row) {
    this.box.hidePopover();
    this.onPick(row);
  }
}

function group(rows) {
  const out = new Map();
  for (const row of rows) out.set(row.date, [...(out.get(row.date) ?? []), row]);
  return out;
}
