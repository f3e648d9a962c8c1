import { dialog } from "./dialog.js";
import { el } from "./dom.js";
import { clock, day } from "./format.js";

/** Go to a time: "13:45", "13:45:30.5" on the day shown, "2025-09-24 13:45:30", or nanoseconds. UTC. */
export function parseTime(text, dayStart) {
  const t = text.trim();
  if (/^\d{16,20}$/.test(t)) return Number(BigInt(t) / 1000n) / 1000;
  const parts = /^(?:(\d{4}-\d\d-\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d{1,9})?))?Z?$/.exec(t);
  if (!parts) return null;
  const [, date, h, m, s = "0"] = parts;
  if (Number(h) > 23 || Number(m) > 59 || Number(s) >= 60) return null;
  const base = Date.parse(`${date ?? day(dayStart)}T00:00:00Z`);
  return Number.isNaN(base) ? null : base + (Number(h) * 3600 + Number(m) * 60 + Number(s)) * 1000;
}

export class GoTo {
  constructor(onTime, now) {
    this.now = now;
    this.input = el("input", { type: "text", "aria-label": "Time, UTC", autocomplete: "off", spellcheck: "false", placeholder: "13:45:30 or 2025-09-24 13:45:30" });
    this.error = el("p", { class: "error", role: "alert" });
    this.hint = el("p", { class: "dim" });
    this.box = dialog("goto", "Go to a time (UTC)", el("form", { class: "form", on: { submit: (event) => {
      event.preventDefault();
      const ms = parseTime(this.input.value, Number(this.range.first) / 1e6);
      if (ms === null) this.error.textContent = "Write a time as 13:45:30, with a date as 2025-09-24 13:45:30.";
      else {
        this.box.close();
        onTime(ms);
      }
    } } }, this.input, this.hint, this.error, el("div", { class: "actions" }, el("button", { class: "button primary" }, "Go"))));
  }

  open(range) {
    this.range = range;
    this.error.textContent = "";
    const [first, last] = [Number(range.first) / 1e6, Number(range.last) / 1e6];
    this.hint.textContent = `Recorded: ${day(first)} ${clock(first)} to ${clock(last)}`;
    const now = this.now();
    this.input.value = clock(now >= first && now <= last ? now : first);
    this.box.showModal();
    this.input.select();
  }
}
