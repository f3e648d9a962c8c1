import { after } from "./replay_window.js";

/**
 * What was read of a replay: items {ms, ns, event, e, step}, those before `at` applied, and the last applied ones kept, so
 * that one can step back. A replay window fills `items`; `apply(item)` is the player's. Times are market times.
 */
const BUDGET_MS = 9;
const PAST = 60_000;
const BACK = 15_000; // at most so many are applied anew for one step back

export class ReplayQueue {
  constructor(apply) {
    Object.assign(this, { apply, items: [], at: 0, past: [], whole: true });
  }

  get left() {
    return this.items.length - this.at;
  }

  get last() {
    return this.at ? this.items[this.at - 1] : null;
  }

  take() {
    const item = this.items[this.at++];
    this.apply(item);
    this.past.push(item);
    if (this.past.length > PAST * 1.5) {
      this.past.splice(0, this.past.length - PAST);
      this.whole = false;
    }
    if (this.at > 20_000) {
      this.items.splice(0, this.at - 1);
      this.at = 1;
    }
  }

  /** Applies items up to `ms`, or to `ns` exactly; false when the frame's budget ended first. */
  until(ms, ns = null) {
    const end = performance.now() + BUDGET_MS;
    const due = (item) => (ns === null ? item.ms <= ms : !after(item.ns, ns));
    for (let n = 1; this.left && due(this.items[this.at]); n++) {
      this.take();
      if ((n & 31) === 0 && performance.now() > end) return false;
    }
    return true;
  }

  /** Applies everything of the next time that has any; null when that is not read, or (`more`: it is being read) not wholly. */
  step(more) {
    const { items } = this;
    let end = this.at;
    while (end < items.length && !items[end].step) end++;
    if (end === items.length) return null;
    const found = items[end];
    while (end < items.length && (items[end].ns === found.ns || !items[end].step)) end++;
    if (end === items.length && more) return null;
    for (let n = end - this.at; n > 0; n--) this.take();
    return found;
  }

  /**
   * Goes back behind the last time that had any: {item: the last one applied then}, after `reset()` and applying all before it
   * anew; {before: its ns} when too much would have to be, or that was forgotten; null at the beginning.
   */
  back(reset) {
    const { past } = this;
    let k = past.length - 1;
    while (k >= 0 && !past[k].step) k--;
    if (k < 0) return null;
    const { ns } = past[k];
    while (k >= 0 && (!past[k].step || past[k].ns === ns)) k--;
    if (k < 0 || !this.whole || k > BACK) return { before: ns };
    this.items.splice(0, this.at, ...past);
    this.at = 0;
    this.past = [];
    reset();
    while (this.at <= k) this.take();
    return { item: past[k] };
  }
}
