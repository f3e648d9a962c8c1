import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { compact } from "../../../services/gateway/static/js/format.js";
import { ask, eventually, hasBook, launch, open, symbolOf } from "./harness.mjs";

/** What each panel shows is what the API says: rows, columns, trades, order flow, figures. */
const DELTA_MS = 20; // what one delta spans at most, on a busy machine
let stage;
let symbol;
before(async () => {
  stage = await launch();
  symbol = await symbolOf(stage);
});
after(() => stage.close());

async function live(hash = "") {
  const page = await open(stage, `#symbols=${symbol}${hash}`);
  await hasBook(page);
  return page;
}
const chart = "window.mbostream.stage.panels.find((p) => p.followAll)";
const view = (page) => page.evaluate(`(() => { const { view: v } = ${chart}; return { span: v.span, rows: v.rows, following: v.following }; })()`);

test("a ladder row is its levels: size, orders, running total, volume traded there", async () => {
  const page = await live();
  for (const group of [1, 5]) {
    const { wrong, rows } = await page.evaluate((g) => {
      const { state, stage: s, instrument: i } = window.mbostream;
      state.set({ groups: { [state.activeTab.spec]: g } });
      const ladder = s.panels.find((p) => p.recentre);
      ladder.rows.fill(i, g, -Infinity, Infinity, false);
      const out = [];
      let rows = 0;
      for (const [name, side, round] of [["bid", i.book.bids, Math.floor], ["ask", i.book.asks, Math.ceil]]) {
        const expected = new Map();
        let sum = 0;
        for (const level of side.levels) {
          const row = round(level.row / g);
          const at = expected.get(row) ?? { size: 0, count: 0 };
          sum += level.size;
          expected.set(row, { size: at.size + level.size, count: at.count + level.count, sum });
        }
        for (const [row, { size, count, sum: total }] of expected) {
          const at = ladder.rows.at(row);
          rows++;
          if (at[name] !== size || at[`${name}s`] !== count || at[`${name}Sum`] !== total) out.push([name, row, at]);
        }
      }
      const traded = [...ladder.rows.rows.values()].reduce((sum, at) => sum + at.traded, 0);
      if (traded !== i.trades.volume) out.push(["traded", traded, i.trades.volume]);
      return { wrong: out, rows };
    }, group);
    assert.deepEqual(wrong, []);
    assert.ok(rows > 10);
  }
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("a column of the heatmap is the book of its time", async () => {
  const page = await live();
  const columns = await eventually(page, () => {
    const { columns: c, grid } = window.mbostream.instrument;
    const ring = c.rings[1];
    const old = [];
    for (let k = 2; k < ring.length && old.length < 3; k += 4) {
      const slot = ring.slot(k);
      const side = (at, n) => Array.from({ length: n }, (_, j) => [grid.price(ring.base[slot] + ring.offset[at + j]).toString(), ring.size[at + j]]);
      const at = slot * 256;
      if (ring.bids[slot]) old.push({ until: String(BigInt(ring.t[slot] + ring.stepMs) * 1_000_000n - 1n), bids: side(at, ring.bids[slot]), asks: side(at + 128, ring.asks[slot]) });
    }
    return old.length === 3 && old;
  });
  const nanos = (text) => {
    const [whole, fraction = ""] = text.split(".");
    return `${BigInt(whole + fraction.padEnd(9, "0"))}`;
  };
  for (const column of columns) {
    // a delta that spans the end of a column belongs to the next one: the column is the book of the delta before it
    const bookOf = async (ms) => {
      const book = await ask(stage, `book/${symbol}?depth=128&at=${BigInt(column.until) - BigInt(Math.round(ms * 1e6))}`);
      return { bids: book.bids, asks: book.asks };
    };
    const rows = (side) => side.map(([price, size]) => [nanos(price), size]);
    let book;
    for (let ms = 0; ms <= DELTA_MS; ms += 0.5) {
      book = await bookOf(ms);
      if (["bids", "asks"].every((side) => JSON.stringify(column[side]) === JSON.stringify(rows(book[side])))) break;
    }
    for (const side of ["bids", "asks"]) assert.deepEqual(column[side], rows(book[side]));
  }
  await page.close();
});

test("the chart pans, zooms, points and follows again, by mouse and by keys", async () => {
  const page = await live();
  const canvas = page.locator(".area-chart canvas");
  const box = await canvas.boundingBox();
  const [x, y] = [box.x + box.width / 3, box.y + box.height / 2];
  await eventually(page, `${chart}.view.rows !== null`);
  const start = await view(page);
  assert.equal(start.following, true);
  await page.mouse.move(x, y);
  await page.mouse.wheel(0, -300);
  assert.ok((await view(page)).span < start.span);
  await page.keyboard.down("Shift");
  await page.mouse.wheel(0, 300);
  await page.keyboard.up("Shift");
  assert.ok((await view(page)).rows > start.rows);
  await page.mouse.down();
  await page.mouse.move(x + 120, y + 40, { steps: 4 });
  await page.mouse.up();
  assert.equal((await view(page)).following, false);
  const { pointed, there } = await eventually(page, `(() => {
    const c = ${chart};
    if (!c.cursor || !c.ring) return null;
    const H = c.plotHeight;
    const row = Math.round(c.view.center + (H / 2 - c.cursor.y) * (c.view.rows / H));
    const ms = c.view.right - (c.plotWidth - c.cursor.x) * (c.view.span / c.plotWidth);
    if (c.ring.bucket !== null && ms >= c.ring.bucket * c.ring.stepMs) return null; // the open column is the book itself
    const index = c.ring.find(ms);
    if (index < 0) return { pointed: null, there: null };
    const slot = c.ring.slot(index), at = slot * 256;
    let there = Number.isNaN(c.ring.bid[slot]) && Number.isNaN(c.ring.ask[slot]) ? null : 0;
    for (let k = 0; k < c.ring.bids[slot]; k++) if (c.ring.base[slot] + c.ring.offset[at + k] === row) there = c.ring.size[at + k];
    for (let k = 128; k < 128 + c.ring.asks[slot]; k++) if (c.ring.base[slot] + c.ring.offset[at + k] === row) there = c.ring.size[at + k];
    return { pointed: c.sizeAt(c.instrument, ms, row), there };
  })()`);
  assert.equal(pointed, there);
  await page.keyboard.press("f");
  assert.equal((await view(page)).following, true);
  await canvas.focus();
  await page.keyboard.press("ArrowLeft");
  assert.equal((await view(page)).following, false);
  await page.keyboard.press("Home");
  const { span } = await view(page);
  await page.keyboard.press("-");
  assert.ok((await view(page)).span > span);
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("the tape holds every trade of its time once, and its filters leave what they say", async () => {
  const page = await live();
  const tape = await eventually(page, () => {
    const seen = window.mbostream.instrument.trades.tape;
    return seen.length > 30 && seen.map((t) => [t.ts, t.price, t.size, t.side]);
  });
  const [from, to] = [tape[5][0], tape[25][0]];
  const history = async () => (await ask(stage, `history/${symbol}/trades?start=${from}&end=${BigInt(to) + 1n}&limit=1000`)).rows.map((r) => [r.ts_recv, r.price, r.size, r.side]);
  let rows = await history();
  for (let k = 0; k < 40 && rows.length < 20; k++) {
    await new Promise((done) => setTimeout(done, 250)); // persist writes a little later
    rows = await history();
  }
  assert.deepEqual(tape.filter(([ts]) => BigInt(ts) >= BigInt(from) && BigInt(ts) <= BigInt(to)), rows);
  await page.click(".tape [data-side=A]");
  await page.fill(".tape input", "2");
  await eventually(page, () => {
    const shown = window.mbostream.stage.panels.find((p) => p.root?.classList.contains("tape") || p.emptyText === "no trades yet").shown;
    return shown.length > 0 && shown.every((t) => t.side === "A" && t.size >= 2);
  });
  await page.close();
});

test("order flow shows each message with its effect, and only the kinds chosen", async () => {
  const page = await live();
  const rows = await eventually(page, () => window.mbostream.instrument.flow.length > 100 && window.mbostream.instrument.flow);
  for (const [, action, , , size, , , , , , , effect, before, after] of rows) {
    if (effect === "added") assert.deepEqual([action === "A" || action === "M", after > 0], [true, true]);
    if (effect === "reduced") assert.ok(after < before);
    if (effect === "removed") assert.equal(after ?? 0, 0);
    if (action === "T" || action === "F") assert.equal(effect, "none");
    assert.ok(size >= 0);
  }
  for (const other of ["A", "C", "M", "F"]) await page.click(`.flow [data-action=${other}]`);
  await eventually(page, () => {
    const { shown } = window.mbostream.stage.panels.find((p) => p.emptyText === "no order messages yet");
    return shown.length > 0 && shown.every((row) => "TRN".includes(row[1]));
  });
  await page.close();
});

test("the figures are those of the book, and the latency badge has its percentiles", async () => {
  const page = await live();
  const { bid, ask: offer, spread, mid, micro, text } = await eventually(page, () => {
    const i = window.mbostream.instrument;
    const of = (name) => document.querySelector(`.figure.${name} dd`).textContent;
    const f = i.figures();
    const latency = document.querySelectorAll(".badge")[1].textContent;
    if (!latency.startsWith("p50")) return null;
    if (of("bid").split(" × ")[0] !== i.grid.text(f.bid.row) || of("ask").split(" × ")[0] !== i.grid.text(f.ask.row)) return null; // shown ten times a second
    return { bid: [Number(i.book.bid.text), i.book.bid.size], ask: [Number(i.book.ask.text), i.book.ask.size], spread: Number(of("spread")), mid: Number(of("mid")), micro: Number(of("micro")), text: latency };
  });
  const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-3, `${a} is not ${b}`);
  close(spread, offer[0] - bid[0]);
  close(mid, (offer[0] + bid[0]) / 2);
  const best = [bid[0], offer[0]]; // the venues of an instrument may cross
  assert.ok(micro >= Math.min(...best) && micro <= Math.max(...best), `${micro} is not between ${best}`);
  assert.match(text, /^p50 [\d.]+ m?s · p99 [\d.]+ m?s$/);
  await page.close();
});

test("the depth chart's sums are those of the book", async () => {
  const page = await live();
  const { caption, bids, asks } = await eventually(page, () => {
    const panel = window.mbostream.stage.panels.find((p) => p.steps);
    const { book } = window.mbostream.instrument;
    if (!panel.reach || !book.bid || !book.ask) return null;
    panel.draw(panel.canvas.begin(), window.mbostream.instrument);
    const mid = (book.bid.row + book.ask.row) / 2;
    const sum = (side) => side.levels.filter((l) => Math.abs(l.row - mid) <= panel.reach).reduce((total, l) => total + l.size, 0);
    return { caption: document.querySelector(".depth .caption").textContent, bids: sum(book.bids), asks: sum(book.asks) };
  });
  assert.equal(caption, `Σ bid ${compact(bids)} · Σ ask ${compact(asks)}`);
  await page.close();
});
