import { Canvas } from "./canvas.js";
import { $, el, setText } from "./dom.js";
import { clock, compact, duration } from "./format.js";
import { draws } from "./frame.js";
import { get } from "./api.js";
import { PipelineModel } from "./pipeline_model.js";
import { drawPipeline, heightOf, laneHeight } from "./pipeline_draw.js";
import { colors, reducedMotion } from "./theme.js";

/** The pipeline as a living picture: records flow along a lane a shard, coloured by the worker that owns it; lag is a bar. */
const POLL_MS = 500; // a shard may be without an owner for less than a second

const many = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** What a living process holds, in two words. */
function holds(p) {
  if (p.role === "book") return many(p.shards, "shard");
  if (p.behind !== null) return `${compact(p.behind)} behind`;
  return p.clients !== null ? many(p.clients, "client") : "alive";
}

export class Pipeline {
  constructor(root, app) {
    this.app = app;
    this.model = new PipelineModel();
    root.classList.add("pipeline-panel");
    this.error = el("p", { class: "error", role: "alert" });
    this.table = el("table", { class: "sr" });
    this.processes = el("ul", { class: "processes", "aria-label": "Processes" });
    this.happened = el("ol", { class: "happened" });
    this.box = el("div", { class: "pipeline-canvas" }, el("canvas", { role: "img", "aria-label": "Shards, owners and flow; the table after it says the same" }));
    root.append(
      el("header", { class: "panel-head" }, el("h2", {}, "Pipeline"), (this.caption = el("span", { class: "caption" })), el("span", { class: "spring" }), this.error),
      el("div", { class: "pipeline-body" }, el("div", { class: "pipeline-scroll", tabindex: "0", role: "region", "aria-label": "Shards" }, this.box, this.table),
        el("div", { class: "pipeline-side", tabindex: "0", role: "region", "aria-label": "Processes and what happened" }, this.processes,
          el("h3", {}, "What happened"), el("div", { role: "log", "aria-label": "What happened" }, this.happened))));
    this.canvas = new Canvas($("canvas", this.box));
    this.stop = draws(this);
    this.poll();
  }

  destroy() {
    this.stop();
    this.canvas.destroy();
    this.gone = true;
    clearTimeout(this.timer);
  }

  async poll() {
    try {
      const answer = await get("pipeline");
      if (this.gone) return;
      this.model.take(answer, performance.now());
      setText(this.error, "");
      this.describe();
    } catch (error) {
      setText(this.error, error.status ? error.message : "the gateway does not answer; trying again");
      this.model.lost();
    }
    if (!this.gone) this.timer = setTimeout(() => this.poll(), POLL_MS);
  }

  describe() {
    const { feeds, processes } = this.model;
    this.lane = laneHeight(feeds, this.box.parentNode.clientHeight - 12);
    const height = heightOf(feeds, this.lane);
    if (this.height !== height) {
      this.height = height;
      this.box.style.height = `${height}px`;
    }
    const rate = feeds.reduce((sum, f) => sum + f.rate, 0);
    const shards = feeds.reduce((sum, f) => sum + f.shards.length, 0);
    setText(this.caption, `${Math.round(rate).toLocaleString("en-US")} records/s · ${shards} shards · ${processes.filter((p) => p.alive).length} processes`);
    this.processes.replaceChildren(...processes.map((p) => {
      const swatch = el("i", { class: "swatch" });
      swatch.style.background = p.role === "book" ? this.model.color(p.owner) : colors.faint;
      return el("li", { class: p.alive ? "" : "dead" }, swatch,
        el("div", {}, el("strong", {}, p.owner), el("span", { class: "dim" }, `${p.role} · pid ${p.pid} · ${p.host}`)),
        el("div", { class: "right" }, el("span", {}, p.alive ? holds(p) : "gone"),
          el("span", { class: "dim" }, p.rate !== null && p.alive ? `${Math.round(p.rate).toLocaleString("en-US")}/s` : `seen ${duration(p.age_ms)} ago`)));
    }));
    const { rows } = this.model.events;
    if (rows[0] !== this.newest || !this.happened.firstChild) {
      this.newest = rows[0];
      this.happened.replaceChildren(...(rows.length ? rows.map((r) => el("li", { class: r.kind }, el("time", {}, clock(r.at)), r.text)) : [el("li", { class: "dim" }, "nothing yet: stop a book worker and watch its shards move")]));
    }
    this.table.replaceChildren(
      el("caption", {}, "Shards"),
      el("thead", {}, el("tr", {}, ...["Feed", "Shard", "Owner", "Records a second", "Book lag", "Persist lag", "State"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, ...feeds.flatMap((f) => f.shards.map((s) => el("tr", {}, ...[f.feed, s.shard, s.owner ?? "nobody", Math.round(s.rate), s.lag.book ?? "–", s.lag.persist ?? "–", s.stale ? "stale" : "good"].map((t) => el("td", {}, String(t))))))));
  }

  frame(now) {
    if (!this.canvas.visible) return;
    if (reducedMotion.matches && now - (this.at ?? 0) < 500 && !this.canvas.dirty) return;
    const elapsed = Math.min(100, now - (this.at ?? now));
    this.at = now;
    this.canvas.dirty = false;
    this.model.move(elapsed, reducedMotion.matches);
    drawPipeline(this.canvas.begin(), this.canvas.width, this.canvas.height, this.model, now, this.lane);
  }
}
