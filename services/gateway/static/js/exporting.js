import { apiUrl, segment } from "./api.js";
import { copyText, dialog } from "./dialog.js";
import { $, el } from "./dom.js";
import { clock, day } from "./format.js";

/** Export: what, which range, which format; the same as a link to download and as a curl command. */
const SCHEMAS = [["mbo", "MBO: every order message"], ["mbp-1", "MBP-1: best bid and offer"], ["mbp-10", "MBP-10: ten levels"], ["trades", "Trades"], ["bars", "Bars"]];
const FORMATS = [["dbn", "DBN (Databento)"], ["csv", "CSV"], ["json", "JSON lines"], ["parquet", "Parquet"]];
const iso = (ns) => new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19);

export class Exporting {
  constructor(app) {
    this.app = app;
    const select = (name, options) => el("select", { name }, ...options.map(([v, t]) => el("option", { value: v }, t)));
    this.schema = select("schema", SCHEMAS);
    this.format = select("format", FORMATS);
    this.period = select("period", [["1s", "1 second"], ["1m", "1 minute"]]);
    this.ranges = ["shown", "day", "own"].map((v) => el("input", { type: "radio", name: "range", value: v, checked: v === "day" }));
    this.rangeTexts = [el("span", { class: "dim" }), el("span", { class: "dim" }), el("span", { class: "dim" }, "UTC")];
    this.start = el("input", { type: "datetime-local", step: "1", "aria-label": "Start, UTC" });
    this.end = el("input", { type: "datetime-local", step: "1", "aria-label": "End, UTC" });
    this.curl = el("textarea", { readonly: true, rows: "4", "aria-label": "curl command", spellcheck: "false" });
    this.download = el("a", { class: "button primary", download: "" }, "Download");
    this.copy = el("button", { class: "button", type: "button", on: { click: () => this.copied() } }, "Copy as curl");
    this.periodLabel = el("label", {}, el("span", {}, "Bar"), this.period);
    const labels = ["What the chart shows", "The whole recorded day", "From … to …"];
    this.form = el("form", { class: "form", on: { input: () => this.draw(), submit: (e) => e.preventDefault() } },
      el("label", {}, el("span", {}, "What"), this.schema), this.periodLabel, el("label", {}, el("span", {}, "Format"), this.format),
      el("fieldset", {}, el("legend", {}, "Range"), ...this.ranges.map((r, k) => el("label", { class: "radio" }, r, el("span", {}, labels[k]), this.rangeTexts[k])),
        (this.own = el("div", { class: "own" }, this.start, el("span", {}, "to"), this.end))),
      this.curl, el("div", { class: "actions" }, this.copy, this.download));
    this.box = dialog("export", "Export", this.form);
    $("#export-open").addEventListener("click", () => this.open());
  }

  open() {
    const tab = this.app.state.activeTab;
    if (!tab) return;
    this.tab = tab;
    $("#export-title").textContent = `Export ${tab.spec}`;
    const view = this.app.heatViews.get(tab);
    const ns = (ms) => BigInt(Math.round(ms * 1000)) * 1000n;
    const { range } = this.app.player;
    this.shown = view.now ? [ns(view.left), ns(view.right)] : null;
    this.day = range ? [range.first, range.last + 1n] : null;
    this.rangeTexts[0].textContent = this.shown ? `${clock(view.left)} – ${clock(view.right)}` : "no chart was shown";
    this.rangeTexts[1].textContent = range ? `${day(Number(range.first / 1_000_000n))}, session ${range.session}` : "nothing recorded";
    this.ranges[0].disabled = !this.shown;
    this.ranges[1].disabled = !range;
    if (this.ranges.find((r) => r.checked).disabled) this.ranges.find((r) => !r.disabled).checked = true;
    const own = this.day ?? this.shown;
    this.start.value = own ? iso(own[0]) : "";
    this.end.value = own ? iso(own[1] + 999_999_999n) : "";
    this.draw();
    this.box.showModal();
  }

  get range() {
    const which = this.ranges.find((r) => r.checked).value;
    if (which === "shown") return this.shown;
    if (which === "day") return this.day;
    const ns = (text) => (text ? BigInt(Date.parse(`${text}Z`)) * 1_000_000n : null);
    return [ns(this.start.value), ns(this.end.value)];
  }

  draw() {
    this.own.hidden = !this.ranges[2].checked;
    this.periodLabel.hidden = this.schema.value !== "bars";
    for (const option of this.format.options) if (option.value === "dbn") option.disabled = this.schema.value === "bars";
    if (this.format.selectedOptions[0]?.disabled) this.format.value = "csv";
    const [start, end] = this.range ?? [null, null];
    const wrong = start === null || end === null || start >= end;
    const url = apiUrl(`export/${segment(this.tab.spec)}`, { schema: this.schema.value, format: this.format.value, period: this.schema.value === "bars" ? this.period.value : null,
      start: start === null ? null : String(start), end: end === null ? null : String(end) });
    const ending = { dbn: "dbn", csv: "csv", json: "jsonl", parquet: "parquet" }[this.format.value];
    this.curl.value = wrong ? "The start must lie before the end." : `curl -fsS '${url}' \\\n  -o ${this.tab.spec.replaceAll(/[^\w.-]/g, "_")}.${this.schema.value}.${ending}`;
    this.download.classList.toggle("off", wrong);
    if (wrong) this.download.removeAttribute("href");
    else this.download.href = url;
    this.copy.disabled = wrong;
  }

  async copied() {
    this.copy.textContent = (await copyText(this.curl.value)) ? "Copied" : "Select and copy by hand";
    setTimeout(() => (this.copy.textContent = "Copy as curl"), 1500);
  }
}
