/**
 * The stream's rule (services/gateway/README.md): which events count. `hello` adds or resets views, a snapshot always
 * applies, a delta or mbo batch only if its `p` is our `q`; `lost` is called when one had to be dropped.
 * What to do with an event that counts is the instrument's business (instrument.js).
 */
export class Views {
  constructor({ find, lost }) {
    this.find = find;
    this.lost = lost;
    this.views = new Map();
  }

  clear() {
    this.views.clear();
  }

  /** Returns the instrument that changed, or null. */
  apply(event, e) {
    if (event === "hello") return this.hello(e);
    const view = this.views.get(e.view);
    if (!view) return null;
    const { instrument } = view;
    switch (event) {
      case "snapshot":
        view.q = e.q;
        if (view.channel === "book") instrument.onSnapshot(e);
        else instrument.onOrders(e);
        break;
      case "delta":
      case "mbo":
        if (view.q !== e.p) {
          this.drop(view);
          return null;
        }
        view.q = e.q;
        if (event === "delta") instrument.onDelta(e);
        else instrument.onMbo(e);
        break;
      case "trade":
        instrument.onTrade(e);
        break;
      case "bbo":
        instrument.onBbo(e);
        break;
      case "status":
        instrument.onStatus(e);
        break;
      case "bar":
        instrument.onBar(e);
        break;
      default:
        return null;
    }
    view.waiting = false;
    return instrument;
  }

  hello(e) {
    for (const v of e.views) {
      const old = this.views.get(v.view);
      if (v.resumed && old) {
        old.q = v.q;
        continue;
      }
      const instrument = this.find(v);
      if (!instrument) continue;
      instrument.onHello(v);
      this.views.set(v.view, { channel: v.channel, instrument, q: null, waiting: false });
    }
    return null;
  }

  drop(view) {
    if (view.waiting) return;
    view.waiting = true;
    this.lost(view);
  }
}
