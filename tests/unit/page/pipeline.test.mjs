import test from "node:test";
import assert from "node:assert/strict";
import { PipelineModel } from "../../../services/gateway/static/js/pipeline_model.js";

const answer = (ms, ordinal) => ({
  ts_gateway: String(1_758_751_999_000_000_000n + BigInt(ms) * 1_000_000n),
  processes: [],
  feeds: [{ feed: "f", session: 1, shards: [{ shard: 0, owner: "w", epoch: 1, in: ordinal, out: ordinal, readers: { persist: { at: ordinal, lag: 0 } } }] }],
});

test("rates are by the gateway's looks at the broker, however often they are given out", () => {
  const model = new PipelineModel();
  const shown = [];
  for (const [now, ms, ordinal] of [[0, 0, 100], [500, 0, 100], [1000, 1000, 1100], [1500, 1000, 1100], [2000, 2000, 2100], [2500, 2000, 2100]]) {
    model.take(answer(ms, ordinal), now);
    shown.push(model.feeds[0].rate);
  }
  assert.deepEqual(shown, [0, 0, 1000, 1000, 1000, 1000]);
  assert.deepEqual(model.lanes.get("f/1/0").history, [1000, 1000]);
});

test("a look of another gateway that is older makes no rate", () => {
  const model = new PipelineModel();
  model.take(answer(1000, 1100), 0);
  model.take(answer(900, 1000), 500);
  assert.equal(model.feeds[0].rate, 0);
});
