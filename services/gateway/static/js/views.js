const F_LAST = 128;

/** Rows of an mbo batch that a reader at `q` does not have: those behind the last event that ended until then. */
function rowsAfter(rows, q) {
  return rows.slice(rows.findLastIndex(([ordinal, , , , , , flags]) => ordinal <= q && flags & F_LAST) + 1);
}

/**
 * The stream's rule (services/gateway/README.md): which events count. `hello` adds or resets views, a snapshot always
 * applies, a delta only if its `p` is our `q`; an mbo batch too, but after a resume it may begin with rows we have.
 * `lost` is called when one had to be dropped.
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
        if (view.q !== e.p) return this.drop(view);
        view.q = e.q;
        instrument.onDelta(e);
        break;
      case "mbo": {
        if (view.q === null || view.q < e.p) return this.drop(view);
        if (e.q <= view.q) return null; // ours already
        const rows = view.q === e.p ? e.rows : rowsAfter(e.rows, view.q);
        view.q = e.q;
        instrument.onMbo({ ...e, rows });
        break;
      }
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
        old.q = v.channel === "mbo" ? Math.max(old.q ?? 0, v.q) : v.q;
        continue;
      }
      const instrument = this.find(v);
      if (!instrument) continue;
      for (const [name, view] of this.views) if (view.instrument === instrument && view.channel === v.channel) this.views.delete(name); // of the symbol's last id
      instrument.onHello(v);
      this.views.set(v.view, { channel: v.channel, instrument, q: null, waiting: false });
    }
    return null;
  }

  drop(view) {
    if (!view.waiting) {
      view.waiting = true;
      this.lost(view);
    }
    return null;
  }
}
