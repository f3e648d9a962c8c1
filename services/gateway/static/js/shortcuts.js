import { $ } from "./dom.js";

/** The table of shortcuts: [keys, text, action]. */
export function shortcuts(app, ui) {
  const { state, player } = app;
  const toggle = (key) => () => state.set({ [key]: !state.get(key) });
  const panel = (act) => app.stage.panels.filter((p) => p[act]);
  const step = (by) => {
    const n = state.get("tabs").length;
    if (n) state.set({ active: (state.get("active") + by + n) % n });
  };
  return [
    ["Instruments", [
      [["/", "Control+k"], "search and open an instrument", () => app.emit("switcher")],
      [["1", "2", "3", "4", "5", "6", "7", "8"], "open instrument 1 … 8", (e) => state.get("tabs")[e.key - 1] && state.set({ active: e.key - 1, view: "book" })],
      [["j"], "next instrument", () => step(1)], [["k"], "previous instrument", () => step(-1)],
      [["w"], "watch or unwatch it", () => ui.watch()],
      [["b"], "show or hide the list", toggle("side")],
    ]],
    ["Book", [
      [["c"], "recentre the ladder", () => panel("recentre").forEach((p) => p.recentre())],
      [["f"], "charts follow the market", () => panel("followAll").forEach((p) => p.followAll())],
      [["q"], "orders in the bars", toggle("queues")], [["s"], "cumulative sizes", toggle("cumulative")], [["v"], "traded at price", toggle("profile")],
      [["o"], "find an order by id", () => $(".find input")?.focus()],
      [["m"], "order flow", toggle("flow")], [["x"], "depth chart", toggle("depthChart")],
      [["h"], "trade bubbles", toggle("bubbles")], [["["], "less contrast", () => state.set({ contrast: Math.max(-6, state.get("contrast") - 1) })],
      [["]"], "more contrast", () => state.set({ contrast: Math.min(6, state.get("contrast") + 1) })],
      [["Escape"], "close the queue of a level", () => state.set({ level: null })],
    ]],
    ["Time", [
      [[" "], "play, pause", () => app.transport.play()],
      [["n"], "one event on", () => state.get("mode") === "replay" && player.step()], [["Shift+N"], "one event back", () => state.get("mode") === "replay" && player.stepBack()],
      [[","], "slower", () => player.faster(-1)], [["."], "faster", () => player.faster(1)],
      [["t"], "go to a time", () => app.transport.ask()],
      [["g"], "go live", () => app.goLive()],
    ]],
    ["Screen", [
      [["y"], "next layout", () => {
        const all = ["focus", "ladders", "charts"];
        state.set({ view: "book", layout: all[(all.indexOf(state.get("layout")) + 1) % all.length] });
      }],
      [["p"], "pipeline view", () => state.set({ view: state.get("view") === "pipeline" ? "book" : "pipeline" })],
      [["d"], "dark, light, as the system", () => ui.theme()],
      [["l"], "copy a link to this view", () => ui.copyLink()],
      [["e"], "export", () => $("#export-open").click()],
      [["?"], "this list", () => $("#help-open").click()],
    ]],
  ];
}
