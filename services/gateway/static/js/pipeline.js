import { Canvas } from "./canvas.js";
import { $, el, setText } from "./dom.js";
import { duration } from "./format.js";
import { draws } from "./frame.js";
import { get } from "./api.js";
import { PipelineModel } from "./pipeline_model.js";
import { drawPipeline, heightOf, laneHeight } from "./pipeline_draw.js";
import { colors, reducedMotion } from "./theme.js";

/** The pipeline as a living picture: records flow along a lane a shard, coloured by the worker that owns it; lag is a bar. */
const POLL_MS = 1000;

export class Pipeline {
  constructor(root, app) {
    this.app = app;
    this.model = new PipelineModel();
    root.classList.add("pipeline-panel");
    this.error = el("p", { class: "error", role: "alert" });
    this.table = el("table", { class: "sr" });
    this.processes = el("ul", { class: "processes", "aria-label": "Processes" });
    this.box = el("div", { class: "pipeline-canvas" }, el("canvas", { role: "img", "aria-label": "Shards, owners and flow; the table after it says the same" }));
    root.append(
      el("header", { class: "panel-head" }, el("h2", {}, "Pipeline"), (this.caption = el("span", { class: "caption" })), el("span", { class: "spring" }), this.error),
      el("div", { class: "pipeline-body" }, el("div", { class: "pipeline-scroll", tabindex: "0", role: "region", "aria-label": "Shards" }, this.box, this.table), this.processes));
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
        el("div", { class: "right" }, el("span", {}, p.alive ? (p.role === "book" ? `${p.shards} shards` : p.clients !== null ? `${p.clients} clients` : "alive") : "gone"),
          el("span", { class: "dim" }, p.rate !== null && p.alive ? `${Math.round(p.rate).toLocaleString("en-US")}/s` : `seen ${duration(p.age_ms)} ago`)));
    }));
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
