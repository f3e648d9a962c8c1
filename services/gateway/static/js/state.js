/**
 * What the user chose: open instruments, layout, mode, options. One object, one `set`, listeners by key. Kept in
 * localStorage; the part that makes a view is also in the link (link.js).
 */
const KEY = "mbostream.screen.v1";
const KEPT = ["tabs", "active", "layout", "theme", "side", "sideTab", "flow", "watch", "depth", "cumulative", "queues", "groups", "bubbles",
  "contrast", "tapeMin", "tapeSide", "flowActions", "profile", "mobileTab", "depthChart"];

export const defaults = {
  tabs: [],
  active: 0,
  view: "book",
  layout: "focus",
  mode: "live",
  replay: { t: null, session: null, speed: 1, playing: false },
  theme: "auto",
  side: true,
  sideTab: "watch",
  flow: true,
  mobileTab: "ladder",
  watch: [],
  depth: 400,
  cumulative: false,
  queues: true,
  profile: true,
  depthChart: true,
  groups: {},
  bubbles: true,
  contrast: 0,
  tapeMin: 0,
  tapeSide: "",
  flowActions: "ACMRTF",
  tracked: null,
  level: null,
};

export class State {
  constructor(storage) {
    this.values = structuredClone(defaults);
    this.listeners = [];
    try {
      this.storage = storage === undefined ? globalThis.localStorage : storage; // where it is forbidden, reading it throws
      const saved = JSON.parse(this.storage?.getItem(KEY) ?? "{}");
      for (const key of KEPT) if (key in saved && (key === "depth" || typeof saved[key] === typeof defaults[key])) this.values[key] = saved[key];
    } catch {
      // a damaged or forbidden store is the same as none
    }
  }

  get(key) {
    return this.values[key];
  }

  set(patch) {
    const changed = Object.keys(patch).filter((key) => this.values[key] !== patch[key]);
    if (!changed.length) return;
    Object.assign(this.values, patch);
    if (changed.some((key) => KEPT.includes(key))) this.save();
    for (const { keys, call } of [...this.listeners]) if (changed.some((key) => keys.includes(key))) call(this.values);
  }

  on(keys, call) {
    const entry = { keys: [keys].flat(), call };
    this.listeners.push(entry);
    return () => this.listeners.splice(this.listeners.indexOf(entry), 1);
  }

  save() {
    try {
      this.storage?.setItem(KEY, JSON.stringify(Object.fromEntries(KEPT.map((key) => [key, this.values[key]]))));
    } catch {
      // private mode or a full store: the layout is then not kept, nothing else
    }
  }

  forget() {
    this.storage?.removeItem(KEY);
  }

  get activeTab() {
    return this.values.tabs[this.values.active] ?? null;
  }

  open(spec, publisher = null) {
    const at = this.values.tabs.findIndex((t) => t.spec === spec && t.publisher === publisher);
    if (at >= 0) this.set({ active: at, view: "book" });
    else if (this.values.tabs.length >= 8) {
      const tabs = [...this.values.tabs];
      tabs[this.values.active] = { spec, publisher };
      this.set({ tabs, view: "book" });
    } else this.set({ tabs: [...this.values.tabs, { spec, publisher }], active: this.values.tabs.length, view: "book" });
  }

  close(index) {
    const tabs = this.values.tabs.filter((_, i) => i !== index);
    if (!tabs.length) return;
    this.set({ tabs, active: Math.min(this.values.active > index ? this.values.active - 1 : this.values.active, tabs.length - 1) });
  }
}
