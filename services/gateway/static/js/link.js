/**
 * A link reproduces the view: instruments, time, speed, layout are in the fragment (which no server sees):
 *   #symbols=CLX5,XNAS.ITCH:AAPL@2&active=1&layout=ladders&mode=replay&t=1758751199000000000&session=1&speed=2
 */
const LAYOUTS = ["focus", "ladders", "charts"];

export function encode(values, t = values.replay.t) {
  const out = new URLSearchParams();
  out.set("symbols", values.tabs.map((x) => (x.publisher === null ? x.spec : `${x.spec}@${x.publisher}`)).join(","));
  if (values.active) out.set("active", values.active);
  if (values.layout !== "focus") out.set("layout", values.layout);
  if (values.view !== "book") out.set("view", values.view);
  if (values.mode === "replay" && t) {
    out.set("mode", "replay");
    out.set("t", t);
    if (values.replay.session) out.set("session", values.replay.session);
    if (values.replay.speed !== 1) out.set("speed", values.replay.speed);
  }
  return `#${out.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%40", "@")}`;
}

/** The state a fragment asks for; what is missing or wrong in it is left out. */
export function decode(hash, replay) {
  const q = new URLSearchParams(hash.replace(/^#/, ""));
  const patch = {};
  const tabs = (q.get("symbols") ?? "").split(",").filter(Boolean).slice(0, 8).map((text) => {
    const at = text.lastIndexOf("@");
    const publisher = at > 0 && /^\d+$/.test(text.slice(at + 1)) ? Number(text.slice(at + 1)) : null;
    return { spec: publisher === null ? text : text.slice(0, at), publisher };
  });
  if (tabs.length) {
    patch.tabs = tabs;
    const active = Number(q.get("active") ?? 0);
    patch.active = Number.isInteger(active) && active >= 0 && active < tabs.length ? active : 0;
    patch.view = "book";
    patch.layout = LAYOUTS.includes(q.get("layout")) ? q.get("layout") : "focus";
  }
  if (q.get("view") === "pipeline") patch.view = "pipeline";
  if (q.get("mode") === "replay" && /^\d{1,20}$/.test(q.get("t") ?? "")) {
    const speed = q.get("speed") === "max" ? "max" : Number(q.get("speed") ?? 1);
    patch.mode = "replay";
    patch.replay = { ...replay, t: q.get("t"), session: q.get("session") ? Number(q.get("session")) : null, speed: speed === "max" || speed > 0 ? speed : 1 };
  }
  return patch;
}
