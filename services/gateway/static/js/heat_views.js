import { HeatView } from "./heat_view.js";
import { tabKey } from "./tabs_key.js";

/** The charts' time and price windows outlive their panels: changing the layout does not lose where one looked. */
export class HeatViews {
  constructor(state) {
    this.state = state;
    this.views = new Map();
  }

  get(tab) {
    const key = `${this.state.get("mode")}/${tabKey(tab)}`;
    if (!this.views.has(key)) this.views.set(key, new HeatView());
    return this.views.get(key);
  }
}
