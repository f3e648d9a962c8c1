import { $, el, setClass, setText } from "./dom.js";
import { duration, latencyText } from "./format.js";
import { draws, frameStats } from "./frame.js";

/** Honest state: is this live, how old is it, how late was it, and what is wrong. */
const EVERY_MS = 250;
const QUIET_MS = 15_000;

export class Badges {
  constructor(app) {
    this.app = app;
    this.at = 0;
    this.state = el("button", { class: "badge", on: { click: () => this.click() } });
    this.age = el("span", { class: "badge quiet", title: "Time since the last event of this instrument arrived" });
    this.latency = el("span", { class: "badge quiet" });
    this.frames = el("span", { class: "badge quiet frames" });
    $("#badges").append(this.frames, this.latency, this.age, this.state);
    draws(this);
  }

  click() {
    if (this.app.state.get("mode") === "replay") this.app.goLive();
    else this.app.live.retryNow();
  }

  frame(now) {
    if (now - this.at < EVERY_MS) return;
    this.at = now;
    const tab = this.app.state.activeTab;
    const i = tab ? this.app.source.instrument(tab) : null;
    const [name, kind, title] = this.app.state.get("mode") === "replay" ? this.replay() : this.live(i, performance.now());
    setText(this.state, name);
    setClass(this.state, `badge state ${kind}`);
    if (this.state.title !== title) this.state.title = title;
    const say = name.replace(/ \d+ s$/, ""); // not every second of a wait
    if (say !== this.said) {
      if (this.said && kind !== "good") this.app.announce(`${say}. ${title}`);
      this.said = say;
    }
    this.figures(i, performance.now());
  }

  replay() {
    const { player } = this.app;
    if (player.error) return ["REPLAY FAILED", "bad", player.error];
    if (player.loading) return ["LOADING", "warn", "reading recorded data"];
    return [player.playing ? "REPLAY" : player.ended ? "REPLAY · END" : "REPLAY · PAUSED", "accent", "Recorded data by market time. Click to go live."];
  }

  live(i, now) {
    const { connection, feeds, slowAt, resyncing } = this.app.live;
    const { phase, reason, detail, retryAt } = connection;
    if (phase === "closed") {
      if (reason === "ended") return ["ENDED", "quiet", detail];
      return ["DISCONNECTED", "bad", `${detail} Click to try again.`];
    }
    if (phase === "waiting") {
      const wait = Math.max(0, (retryAt - now) / 1000);
      const name = reason === "slow" ? "SLOW" : reason === "drain" || reason === "max_age" ? "MOVING" : "RECONNECTING";
      return [`${name}${wait > 1 ? ` ${Math.ceil(wait)} s` : ""}`, reason === "max_age" ? "warn" : "bad", detail];
    }
    if (phase === "connecting") return ["CONNECTING", "warn", "asking the gateway for the stream"];
    const status = i?.status?.state;
    if (status === "gap") return ["GAP", "bad", i.status.reason ?? "records were lost: the book may be wrong until a snapshot"];
    if (i?.book.stale) return ["STALE", "bad", i.status?.reason ?? "a gap lies before this state: the book may be wrong until a snapshot"];
    if (resyncing) return ["RESYNC", "warn", "a delta did not follow ours; waiting for a snapshot"];
    if (now - slowAt < 10_000) return ["SLOW", "warn", "the gateway had to drop updates for this page: open fewer instruments"];
    if (status && !["open", "trading", "auction", "recovered"].includes(status)) return [status.replaceAll("_", " ").toUpperCase(), "warn", i.status.reason ?? "state of the venue"];
    if (feeds.get(i?.feed)?.state === "ended" && now - i.arrivedAt > 3000) return ["ENDED", "quiet", "the source has ended: this is its last state"];
    if (i && i.arrivedAt && now - i.arrivedAt > QUIET_MS) return ["LIVE · QUIET", "quiet", `connected; nothing came for this instrument for ${duration(now - i.arrivedAt)}`];
    if (status === "auction" || i?.book.auction) return ["LIVE · AUCTION", "accent", "connected; the book is crossed before an auction"];
    return ["LIVE", "good", "connected and current"];
  }

  figures(i, now) {
    const live = this.app.state.get("mode") === "live";
    const { fps, workMs } = frameStats();
    setText(this.frames, `${Math.round(fps)} fps`);
    const title = `Frames a second; drawing one takes ${workMs.toFixed(1)} ms`;
    if (this.frames.title !== title) this.frames.title = title;
    this.latency.hidden = this.age.hidden = !live;
    if (!live) return;
    const age = i?.arrivedAt ? now - i.arrivedAt : null;
    setText(this.age, age === null ? "no data" : `age ${age < 1000 ? "<1 s" : duration(age)}`);
    const l = i?.latency.read(now);
    setText(this.latency, l ? `p50 ${latencyText(l.gateway.p50)} · p99 ${latencyText(l.gateway.p99)}` : "latency –");
    const more = l ? `Market data due → gateway, last 10 s.\np50 / p99: ingest ${latencyText(l.ingest.p50)} / ${latencyText(l.ingest.p99)}, book ${latencyText(l.book.p50)} / ${latencyText(l.book.p99)}, gateway ${latencyText(l.gateway.p50)} / ${latencyText(l.gateway.p99)}` : "no events in the last 10 s";
    if (this.latency.title !== more) this.latency.title = more;
  }
}
