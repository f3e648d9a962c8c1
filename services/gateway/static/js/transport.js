import { Calendar } from "./calendar.js";
import { Days, rangeOf } from "./days.js";
import { $, el, icon, setText } from "./dom.js";
import { GoTo } from "./goto.js";
import { clock, day } from "./format.js";
import { draws } from "./frame.js";
import { SPEEDS } from "./player.js";
import { Timeline } from "./timeline.js";

/** The bar of time: live or replay, calendar, play, step, speed, and the timeline. The same bar in both modes. */
const EVERY_MS = 60;
const REFRESH_MS = 20_000;

export class Transport {
  constructor(app) {
    this.app = app;
    this.days = new Days();
    this.at = 0;
    this.build();
    this.calendar = new Calendar(this.dayButton, { rows: () => this.days.rows, onPick: (row) => this.pick(row) });
    this.timeline = new Timeline($("#timeline"), { onSeek: (ms) => this.seek(ms) });
    app.state.on(["active", "tabs"], () => this.reload());
    app.state.on(["mode", "replay"], () => this.draw());
    this.reload();
    this.draw();
    setInterval(() => app.state.get("mode") === "live" && !document.hidden && this.reload(), REFRESH_MS);
    draws(this);
  }

  build() {
    const { player } = this.app;
    const tool = (name, label, click) => el("button", { class: "tool", "aria-label": label, title: label, on: { click } }, icon(name));
    this.liveButton = el("button", { class: "live-button", title: "Live (G)", on: { click: () => this.app.goLive() } }, el("i"), "Live");
    this.dayButton = el("button", { class: "day-button", popovertarget: "calendar", title: "Recorded days" }, icon("calendar"), (this.dayText = el("span", {}, "–")));
    this.playButton = el("button", { class: "tool play", "aria-label": "Play", on: { click: () => this.play() } }, icon("play"));
    this.speed = el("select", { "aria-label": "Replay speed", title: "Replay speed (, and .)", on: { change: (e) => player.setSpeed(e.target.value === "max" ? "max" : Number(e.target.value)) } },
      ...SPEEDS.map((s) => el("option", { value: String(s) }, s === "max" ? "max" : `${s}×`)));
    this.clock = el("button", { class: "clock", title: "Go to a time (T)", on: { click: () => this.ask() } });
    this.goto = new GoTo((ms) => this.seek(ms), () => this.app.source.marketNow(this.app.instrument));
    this.date = el("span", { class: "clock-date" });
    this.controls = el("div", { class: "controls" },
      (this.backButton = tool("prev", "One event back (Shift+N)", () => player.stepBack())), this.playButton,
      (this.nextButton = tool("next", "One event on (N)", () => player.step())), this.speed);
    $("#transport").append(this.liveButton, this.dayButton, this.controls, el("div", { class: "clock-box" }, this.clock, this.date),
      el("div", { class: "timeline-box" }, el("canvas", { id: "timeline", role: "slider", tabindex: "0", "aria-label": "Timeline of recorded activity", "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" })));
  }

  async reload() {
    const tab = this.app.state.activeTab;
    if (!tab) return;
    await this.days.load(tab.spec);
    if (this.app.state.activeTab !== tab) return;
    this.settle();
  }

  /** Which day the timeline shows: the playhead's in replay, the newest in live. */
  settle() {
    const { state, player } = this.app;
    const replay = state.get("mode") === "replay";
    const row = this.days.holding(replay ? player.ns : null, replay ? state.get("replay").session : null);
    const range = row ? rangeOf(row) : null;
    player.range = range;
    if (range) {
      const now = this.app.live.serverNow;
      const ns = now === null ? null : BigInt(Math.round(now * 1000)) * 1000n;
      if (ns !== null && range.last > ns && range.first < ns) range.last = ns; // the day's row may end with its minute
    }
    this.timeline.show(state.activeTab.spec, range);
    setText(this.dayText, row ? row.date : this.days.error ? "no history" : "nothing recorded");
    this.draw();
  }

  ask() {
    const { range } = this.app.player;
    if (range) this.goto.open(range);
  }

  play() {
    if (this.app.state.get("mode") === "live") {
      const range = this.app.player.range;
      if (range) this.enter(range.first, range.session, true);
    } else this.app.player.toggle();
  }

  pick(row) {
    this.app.player.range = rangeOf(row);
    this.enter(row.first, row.session, false);
    this.settle();
  }

  seek(ms) {
    const ns = BigInt(Math.round(ms * 1000)) * 1000n;
    if (this.app.state.get("mode") === "live") this.enter(ns, this.app.player.range?.session ?? null, false);
    else this.app.player.seek(ns);
  }

  enter(ns, session, playing) {
    const { state, player } = this.app;
    const replay = { ...state.get("replay"), t: String(ns), session, playing };
    if (state.get("mode") === "replay") {
      state.set({ replay });
      player.seek(ns, { keepPlaying: playing });
    } else state.set({ replay, mode: "replay" });
  }

  draw() {
    const { values } = this.app.state;
    const replay = values.mode === "replay";
    $("#transport").dataset.mode = values.mode;
    this.liveButton.setAttribute("aria-pressed", String(!replay));
    const playing = replay && values.replay.playing;
    if (this.shownPlaying !== playing) {
      this.shownPlaying = playing;
      this.playButton.replaceChildren(icon(playing ? "pause" : "play"));
      this.playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
      this.playButton.title = `${playing ? "Pause" : "Play"} (space)`;
    }
    this.playButton.disabled = !replay && !this.app.player.range;
    this.backButton.disabled = this.nextButton.disabled = !replay;
    this.speed.value = String(values.replay.speed);
    this.speed.disabled = !replay;
  }

  frame(now) {
    if (now - this.at < EVERY_MS) return;
    this.at = now;
    const replay = this.app.state.get("mode") === "replay";
    const i = this.app.instrument;
    const ms = i ? this.app.source.marketNow(i) : 0;
    setText(this.clock, ms ? clock(ms, replay ? 3 : 0) : "–");
    setText(this.date, ms ? `${day(ms)} UTC` : "");
    this.timeline.setHead(replay ? ms : null);
  }
}
