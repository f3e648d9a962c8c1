import { App } from "./app.js";
import { Badges } from "./badges.js";
import { Chrome } from "./chrome.js";
import { Exporting } from "./exporting.js";
import { Figures } from "./figures.js";
import { Keys } from "./keys.js";
import { decode } from "./link.js";
import { Login } from "./login.js";
import { Menu } from "./menu.js";
import { dismiss, notice } from "./notice.js";
import { shortcuts } from "./shortcuts.js";
import { Side } from "./side.js";
import { Stage } from "./stage.js";
import { Switcher } from "./switcher.js";
import { Tabs } from "./tabs.js";
import { applyTheme, watchSystemTheme } from "./theme.js";
import { Transport } from "./transport.js";

/** Starts the page: state from the link and the store, the panels, then the source of data. */
const RETRY_MS = 2000;
const app = new App();
const { state } = app;
if (innerWidth < 1500) state.set({ side: false });
state.set(decode(location.hash, state.get("replay")));
applyTheme(state.get("theme"));
watchSystemTheme(() => state.get("theme"));
await document.fonts.load("12px 'JetBrains Mono'").catch(() => null);

app.switcher = new Switcher(app);
app.stage = new Stage(app);
app.transport = new Transport(app);
const chrome = new Chrome(app);
new Tabs(app);
new Figures(app);
new Badges(app);
new Side(app);
new Exporting(app);
new Menu(app);
new Keys(app, shortcuts(app, chrome));
new Login(app, () => begin());
app.stage.lay();
state.on(["tabs", "depth", "queues", "flow"], () => app.live.sync());
window.addEventListener("hashchange", () => {
  const patch = decode(location.hash, state.get("replay"));
  state.set({ mode: "live", ...patch });
  if (patch.mode === "replay") app.player.seek(patch.replay.t);
});

/** Finds something to show (the first instrument, when none was chosen) and starts the source; tries again until it can. */
async function begin() {
  try {
    if (!state.get("tabs").length && !(await app.openFirst())) throw new Error("no feed has an instrument yet: start a source, for example `mbo demo`");
    dismiss("boot");
    app.turn();
    app.transport.reload();
  } catch (error) {
    if (error.status === 401) app.emit("connection", { phase: "closed", reason: "http-401", detail: error.message });
    else {
      notice(`${error.status ? error.message : error instanceof TypeError ? "the gateway does not answer" : error.message}; trying again`, { kind: "bad", key: "boot" });
      setTimeout(begin, RETRY_MS);
    }
  }
}

await begin();
/** For the console and the tests: the state, the sources, the instruments. */
window.mbostream = app;
