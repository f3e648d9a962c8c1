import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { SseParser } from "../../../services/gateway/static/js/sse.js";
import { Stream } from "../../../services/gateway/static/js/stream.js";
import { Views } from "../../../services/gateway/static/js/views.js";

const original = globalThis.fetch;
afterEach(() => (globalThis.fetch = original));

test("the parser gives the same events however the text is cut", () => {
  const text = 'retry: 500\nevent: bbo\ndata: {"a":1}\n\n: comment\n\nevent: trade\ndata: {"b":\ndata: 2}\n\nid: x=3\n\n';
  for (let cut = 1; cut < text.length; cut++) {
    const seen = [];
    const parser = new SseParser((event, e) => seen.push([event, e]));
    parser.push(text.slice(0, cut));
    parser.push(text.slice(cut));
    assert.deepEqual(seen, [["bbo", { a: 1 }], ["trade", { b: 2 }]]);
    assert.equal(parser.lastId, "x=3");
    assert.equal(parser.retry, 500);
  }
});

test("carriage returns are line ends too", () => {
  const seen = [];
  new SseParser((event, e) => seen.push(e)).push('data: {"a":1}\r\n\r\n');
  assert.deepEqual(seen, [{ a: 1 }]);
});

/** Answers each connection in turn; collects states and urls until `until(states)`. */
function run(answers, until) {
  const urls = [];
  const states = [];
  let turn = 0;
  globalThis.fetch = async (url) => {
    urls.push(url);
    const answer = answers[Math.min(turn++, answers.length - 1)];
    if (answer instanceof Error) throw answer;
    return answer();
  };
  return new Promise((resolve) => {
    const stream = new Stream({
      url: (id) => `http://x/?id=${id}`,
      onEvent: () => {},
      onState: (s) => {
        states.push(s);
        if (until(states)) {
          stream.stop();
          resolve({ urls, states });
        }
      },
    });
    stream.start();
  });
}
const sse = (text) => () => new Response(text, { headers: { "content-type": "text/event-stream" } });
const phases = (states) => states.map((s) => s.phase);

test("after a loss it comes back with the last id", async () => {
  const { urls } = await run([sse('data: {"a":1}\n\nid: p=7\n\n'), sse("")], (s) => phases(s).filter((p) => p === "open").length === 2);
  assert.deepEqual(urls, ["http://x/?id=null", "http://x/?id=p=7"]);
});

test("bye says when to come back and why", async () => {
  const { states } = await run([sse('event: bye\ndata: {"reason":"slow","detail":"read faster","retry_ms":40}\n\n')], (s) => phases(s).includes("waiting"));
  const waiting = states.at(-1);
  assert.equal(waiting.reason, "slow");
  assert.equal(waiting.detail, "read faster");
});

test("bye: ended is the end", async () => {
  const { states } = await run([sse('event: bye\ndata: {"reason":"ended","detail":"the source has ended","retry_ms":null}\n\n')], (s) => phases(s).includes("closed"));
  assert.equal(states.at(-1).reason, "ended");
});

test("a 4xx is not retried and its detail is told", async () => {
  const { states, urls } = await run([() => new Response(JSON.stringify({ detail: "no feed has CLX9" }), { status: 404 })], (s) => phases(s).includes("closed"));
  assert.equal(states.at(-1).reason, "http-404");
  assert.equal(states.at(-1).detail, "no feed has CLX9");
  assert.equal(urls.length, 1);
});

test("an unreachable gateway is retried", async () => {
  const { states } = await run([new TypeError("refused"), sse("")], (s) => phases(s).includes("open"));
  assert.deepEqual(phases(states), ["connecting", "waiting", "connecting", "open"]);
});

test("a gateway that takes the connection and says nothing is left and asked again", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const states = [];
  globalThis.fetch = (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const stream = new Stream({ url: () => "http://x/", onEvent() {}, onState: (s) => states.push(s) }).start();
  t.mock.timers.tick(2000);
  assert.deepEqual(phases(states), ["connecting"]);
  stream.lastByteAt -= 60_000;
  t.mock.timers.tick(2000);
  await new Promise(setImmediate);
  assert.deepEqual(phases(states), ["connecting", "waiting"]);
  stream.stop();
});

function views() {
  const log = [];
  const instrument = new Proxy({}, { get: (_, name) => (e) => log.push([name, e.q]) });
  const lost = [];
  const v = new Views({ find: () => instrument, lost: (view) => lost.push(view) });
  v.apply("hello", { views: [{ view: "b", channel: "book", resumed: false, q: 0 }] });
  log.length = 0;
  return { v, log, lost };
}

test("a delta counts only if its p is our q", () => {
  const { v, log, lost } = views();
  v.apply("delta", { view: "b", p: 1, q: 2 });
  assert.deepEqual(log, []);
  v.apply("snapshot", { view: "b", q: 5 });
  v.apply("delta", { view: "b", p: 5, q: 6 });
  v.apply("delta", { view: "b", p: 9, q: 10 });
  v.apply("delta", { view: "b", p: 10, q: 11 });
  v.apply("snapshot", { view: "b", q: 12 });
  v.apply("delta", { view: "b", p: 12, q: 13 });
  assert.deepEqual(log.map(([name, q]) => [name, q]), [["onOrders", 5], ["onDelta", 6], ["onOrders", 12], ["onDelta", 13]].map(([n, q]) => [n === "onOrders" ? "onSnapshot" : n, q]));
  assert.equal(lost.length, 2);
});

test("hello with resumed keeps a view and moves its q; without, the view waits for its snapshot", () => {
  const { v, log } = views();
  v.apply("snapshot", { view: "b", q: 5 });
  v.apply("hello", { views: [{ view: "b", channel: "book", resumed: true, q: 8 }] });
  log.length = 0;
  v.apply("delta", { view: "b", p: 8, q: 9 });
  assert.deepEqual(log, [["onDelta", 9]]);
  v.apply("hello", { views: [{ view: "b", channel: "book", resumed: false, q: 0 }] });
  log.length = 0;
  v.apply("delta", { view: "b", p: 9, q: 10 });
  assert.deepEqual(log, []);
});

test("a symbol that goes on with another id has one view: what comes of the old one counts no more", () => {
  const { v, log, lost } = views();
  v.apply("snapshot", { view: "b", q: 5 });
  v.apply("hello", { views: [{ view: "next", channel: "book", resumed: false, q: 0 }] });
  v.apply("snapshot", { view: "next", q: 2 });
  log.length = 0;
  v.apply("delta", { view: "b", p: 5, q: 6 });
  v.apply("delta", { view: "b", p: 9, q: 10 });
  assert.deepEqual([log, lost], [[], []]);
});

test("after a resume an mbo batch may begin with what we have: only the rest is applied", () => {
  const applied = [];
  const instrument = { onHello() {}, onOrders() {}, onMbo: (e) => applied.push(e.rows.map((r) => r[0])) };
  const lost = [];
  const v = new Views({ find: () => instrument, lost: (view) => lost.push(view) });
  const row = (ordinal, last = true) => [ordinal, "A", "B", "1", 1, "7", last ? 128 : 0];
  const hello = (resumed, q) => v.apply("hello", { views: [{ view: "m", channel: "mbo", resumed, q }] });
  hello(false, 0);
  v.apply("mbo", { view: "m", p: 10, q: 12, rows: [row(11)] }); // before any snapshot
  assert.equal(lost.length, 1);
  v.apply("snapshot", { view: "m", q: 10 });
  v.apply("mbo", { view: "m", p: 10, q: 13, rows: [row(11), row(13)] });
  hello(true, 10); // the write's id had not come yet
  v.apply("mbo", { view: "m", p: 10, q: 13, rows: [row(11), row(13)] });
  v.apply("mbo", { view: "m", p: 10, q: 17, rows: [row(11), row(13), row(15, false), row(16)] });
  v.apply("mbo", { view: "m", p: 17, q: 18, rows: [row(18)] });
  assert.deepEqual(applied, [[11, 13], [15, 16], [18]]);
  v.apply("mbo", { view: "m", p: 19, q: 20, rows: [row(20)] });
  assert.equal(lost.length, 2);
});
