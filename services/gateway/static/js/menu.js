import { $, el, icon } from "./dom.js";

/** The panels menu: what is shown, how many levels are asked for, and back to the defaults. */
const TOGGLES = [["flow", "Order flow"], ["depthChart", "Depth chart"], ["bubbles", "Trade bubbles"], ["queues", "Orders in the bars"], ["cumulative", "Cumulative sizes"], ["profile", "Traded at price"]];
const DEPTHS = [["10", "10"], ["50", "50"], ["100", "100"], ["400", "400"], ["1000", "1000"], ["all", "all"]];

export class Menu {
  constructor(app) {
    this.app = app;
    const { state } = app;
    this.boxes = TOGGLES.map(([key, text]) => {
      const input = el("input", { type: "checkbox", on: { change: () => state.set({ [key]: input.checked }) } });
      return [key, input, el("label", {}, input, el("span", {}, text))];
    });
    this.depth = el("select", { "aria-label": "Levels a side", on: { change: () => state.set({ depth: this.depth.value === "all" ? "all" : Number(this.depth.value) }) } },
      ...DEPTHS.map(([value, text]) => el("option", { value }, text)));
    const box = el("div", { class: "popover menu", id: "menu", popover: "auto", "aria-label": "Panels" }, ...this.boxes.map(([, , label]) => label),
      el("label", { class: "split" }, el("span", {}, "Levels a side"), this.depth),
      el("button", { class: "link", on: { click: () => {
        state.forget();
        location.assign(location.pathname);
      } } }, "Reset the layout"));
    const button = el("button", { class: "tool", popovertarget: "menu", "aria-label": "Panels", title: "Panels and options" }, icon("sliders"));
    $("#export-open").before(button);
    document.body.append(box);
    box.addEventListener("toggle", (event) => {
      if (event.newState !== "open") return;
      const at = button.getBoundingClientRect();
      box.style.left = `${Math.max(8, Math.min(at.left - 80, innerWidth - box.offsetWidth - 8))}px`;
      box.style.top = `${at.bottom + 6}px`;
      this.draw();
    });
    state.on([...TOGGLES.map(([key]) => key), "depth"], () => this.draw());
    this.draw();
  }

  draw() {
    for (const [key, input] of this.boxes) input.checked = this.app.state.get(key);
    this.depth.value = String(this.app.state.get("depth"));
  }
}
