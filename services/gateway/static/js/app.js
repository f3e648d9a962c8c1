import { get, segment } from "./api.js";
import { $ } from "./dom.js";
import { Catalogue } from "./catalogue.js";
import { LiveSource } from "./live.js";
import { HeatViews } from "./heat_views.js";
import { recall } from "./recall.js";
import { Player } from "./player.js";
import { State } from "./state.js";

const CANDIDATES = 8;

/** What every panel gets: the state, the source of instruments, and a way to tell the others. */
export class App extends EventTarget {
  constructor() {
    super();
    this.state = new State();
    this.catalogue = new Catalogue();
    this.live = new LiveSource(this);
    this.heatViews = new HeatViews(this.state);
    this.player = new Player(this);
    this.state.on("mode", () => this.turn());
    this.state.on(["tabs", "active"], () => this.state.get("mode") === "replay" && this.player.follow());
  }

  /** Where panels read instruments from: live, or the replay player, whose screen is the same. */
  get source() {
    return this.state.get("mode") === "replay" ? this.player : this.live;
  }

  get instrument() {
    const tab = this.state.activeTab;
    return tab ? this.source.instrument(tab) : null;
  }

  emit(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Returns what takes the listener away again. */
  on(type, call) {
    const listener = (event) => call(event.detail);
    this.addEventListener(type, listener);
    return () => this.removeEventListener(type, listener);
  }

  announce(text) {
    $("#announce").textContent = text;
  }

  /** Live or replay: one of the two sources runs. */
  turn() {
    if (this.state.get("mode") === "replay") {
      this.live.stop();
      this.player.start();
    } else {
      this.player.stop();
      this.live.start();
    }
  }

  /** Opens the busiest of the first live instruments (the first, without history); false when there is none. */
  async openFirst() {
    const { instruments } = await this.catalogue.search("", { limit: 200 });
    const live = instruments.filter((i) => i.live).slice(0, CANDIDATES);
    const counts = await Promise.all(live.map((i) => recall(() => this.recorded(i))));
    const first = live[counts.indexOf(Math.max(...counts))] ?? instruments[0];
    this.state.set({ tabs: first ? [{ spec: this.switcher.spec(first), publisher: null }] : [], active: 0 });
    if (!this.state.get("watch").length) this.state.set({ watch: live.map((i) => this.switcher.spec(i)) });
    return Boolean(first);
  }

  async recorded(i) {
    if (!i.last) return 0;
    try {
      const { rows } = await get(`history/${segment(`${i.dataset}:${i.instrument_id}`)}/activity`, { start: i.first, end: String(BigInt(i.last) + 1n), buckets: 1 });
      return rows.reduce((sum, [, records]) => sum + records, 0);
    } catch {
      return 0; // no history: then the first is as good as any
    }
  }

  goLive() {
    this.state.set({ mode: "live" });
  }
}
