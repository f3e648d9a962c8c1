import { App } from "./app.js";
import { Badges } from "./badges.js";
import { Figures } from "./figures.js";
import { decode } from "./link.js";
import { notice } from "./notice.js";
import { Stage } from "./stage.js";
import { Tabs } from "./tabs.js";
import { Transport } from "./transport.js";
import { applyTheme, watchSystemTheme } from "./theme.js";

const app = new App();
const { state } = app;
state.set(decode(location.hash, state.get("replay")));
applyTheme(state.get("theme"));
watchSystemTheme(() => state.get("theme"));
await document.fonts.load("12px 'JetBrains Mono'").catch(() => null);

if (!state.get("tabs").length) {
  try {
    const { instruments } = await app.catalogue.search("", { limit: 50 });
    const first = instruments.find((i) => i.live) ?? instruments[0];
    if (first) state.open(first.symbol);
  } catch (error) {
    notice(error.message, { kind: "bad", key: "boot" });
  }
}

new Tabs(app);
new Figures(app);
new Badges(app);
new Stage(app).lay();
app.transport = new Transport(app);
state.on(["tabs", "depth", "queues", "rightTab"], () => app.live.sync());
app.turn();
window.mbostream = app;
