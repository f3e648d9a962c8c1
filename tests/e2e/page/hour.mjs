import { Instrument } from "../../../services/gateway/static/js/instrument.js";
import { Views } from "../../../services/gateway/static/js/views.js";
import { Market } from "../../support/fake_gateway/market.mjs";
import { View } from "../../support/fake_gateway/views.mjs";

/**
 * Hours of market time through all the page keeps of an instrument, as fast as it goes: 1,000 events a second on every
 * channel, heap and typed arrays after a forced collection every five minutes. After the first hour it must not grow by
 * more than LIMIT_MB. What the page draws is not in it: that is soak.mjs, in the browser.
 *
 * node --expose-gc hour.mjs [hours]
 */
const HOURS = Number(process.argv[2] ?? 2);
const LIMIT_MB = 1;
const MB = 1024 * 1024;
const made = { symbol: "BUSY", id: 1, dataset: "GLBX.MDP3", feed: "f", session: 1, override: null };
const market = new Market({ symbol: "BUSY", seed: 7, tick: 10_000_000n, mid: 10_000 });
const instrument = new Instrument("BUSY");
const views = new Views({ find: () => instrument, lost: () => { throw new Error("an event did not follow"); } });
const sent = ["book", "trades", "mbo", "status"].map((channel) => new View(channel, made, { depth: 400 }));
let ts = 1_790_000_000_000_000_000n;
const take = (events) => events.forEach(([event, e]) => views.apply(event, e));
take([["hello", { views: sent.map((v) => v.describe(false)) }]]);
for (const view of sent) take(view.first(market, ts));

const held = () => {
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return (heapUsed + arrayBuffers) / MB;
};
const samples = [];
for (let minute = 1; minute <= HOURS * 60; minute++) {
  for (let k = 0; k < 60_000; k++) {
    ts += 1_000_000n;
    const event = market.step(ts);
    for (const view of sent) take(view.on(market, event));
  }
  if (minute % 5) continue;
  samples.push(held());
  process.stdout.write(`${String(minute).padStart(4)} min  ${samples.at(-1).toFixed(2)} MB  ${instrument.book.version} changes  ${market.orders.size} orders  ${instrument.profile.size} prices traded\n`);
}
const [from, to] = [samples[Math.min(11, samples.length - 1)], samples.at(-1)];
process.stdout.write(`${(to - from).toFixed(2)} MB more after ${HOURS} h than after 1 h\n`);
process.exit(HOURS > 1 && to - from > LIMIT_MB ? 1 : 0);
