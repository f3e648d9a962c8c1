import { $ } from "./dom.js";
import { Catalogue } from "./catalogue.js";
import { LiveSource } from "./live.js";
import { HeatViews } from "./heat_views.js";
import { Player } from "./player.js";
import { State } from "./state.js";

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
    this.state.on("tabs", () => this.state.get("mode") === "replay" && this.player.active && this.player.seek(this.player.ns));
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

  on(type, call) {
    this.addEventListener(type, (event) => call(event.detail));
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

  /** Opens the first instrument that has a live book; says so when there is none. */
  async openFirst() {
    const { instruments } = await this.catalogue.search("", { limit: 200 });
    const first = instruments.find((i) => i.live) ?? instruments[0];
    this.state.set({ tabs: [], active: 0 });
    if (first) this.state.open(first.symbol);
    return Boolean(first);
  }

  goLive() {
    this.state.set({ mode: "live" });
  }
}
