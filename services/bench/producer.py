"""The feed of `mbo bench sse`: entries as ingest and a book worker commit them, made here at a fixed rate."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np

from shared.broker import Broker
from shared.orderbook.shard import ShardState
from shared.records import MBO, Rows
from shared.units import F_LAST, MBO_BYTES, PX_SCALE, RTYPE_MBO
from shared.wire.codec import InEntry, encode_control, encode_out, encode_records

FEED = "bench.feed"
SYMBOL = "BENCH"
TICK_PX = PX_SCALE // 100
MID_TICKS = 10_000
SEEDS = 40
SEED_ORDER = 10**12


class Producer:
    """A session of one instrument, appended at a fixed rate from a thread: `:in`, and `:out` as an engine makes it."""

    def __init__(self, url: str, batch: int) -> None:
        self.broker = Broker(url, name="bench")
        self.state = ShardState("uncross")
        self.ordinal = 0
        self._order = 1
        self._batch = batch
        self._rng = np.random.default_rng(1)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        keys = self.broker.keys
        meta = {
            "shards": 1,
            "policy": "uncross",
            "dataset": "BENCH",
            "session": 1,
            "state": "open",
            "readers": "",
        }
        self.broker.call("HSET", keys.feed(FEED, "meta"), *[part for pair in meta.items() for part in pair])
        self.broker.call(
            "HSET", keys.feed(FEED, "instruments"), 1, json.dumps({"symbol": SYMBOL, "publishers": [1]})
        )
        self.broker.call("SADD", keys.feeds, FEED)
        self.control({"type": "begin", "session": 1, "policy": "uncross", "dataset": "BENCH", "ts": 0})
        self.control({"type": "mapping", "instrument_id": 1, "symbol": SYMBOL})
        self.send(self.seed())

    def rows(self, count: int) -> Rows:
        """Adds near the touch, each cancelled some records later: a book that stays small."""
        out = np.zeros(count, MBO)
        out["length"], out["rtype"], out["publisher_id"], out["instrument_id"] = (
            MBO_BYTES // 4,
            RTYPE_MBO,
            1,
            1,
        )
        out["ts_event"] = out["ts_recv"] = time.time_ns()
        out["flags"], out["size"] = F_LAST, self._rng.integers(1, 50, count)
        if count == 1:  # a resting order changes its size: every entry changes the top of the book
            out["order_id"], out["side"], out["action"] = SEED_ORDER, ord("B"), ord("M")
            out["price"] = MID_TICKS * TICK_PX
            out["size"] = 1 + self._order % 1000
            self._order += 1
            return out
        half = np.arange(count) >= (count + 1) // 2  # the second half cancels the first
        ids = self._order + np.arange(count) - np.where(half, (count + 1) // 2, 0)
        out["order_id"] = ids
        out["side"] = np.where(ids % 2, ord("B"), ord("A"))
        out["price"] = (MID_TICKS + np.where(ids % 2, -1, 1) * (1 + ids % 7)) * TICK_PX
        out["action"] = np.where(half, ord("C"), ord("A"))
        out["size"][half] = out["size"][: half.sum()]
        self._order += count
        return out

    def seed(self) -> Rows:
        """Orders that stay: a few levels a side."""
        out = self.rows(SEEDS)
        out["action"], out["order_id"] = ord("A"), SEED_ORDER + np.arange(SEEDS)
        return out

    def control(self, control: dict[str, Any]) -> None:
        self.ordinal += 1
        now = time.time_ns()
        self._write(
            encode_control(control, self.ordinal, now, now, 0),
            InEntry(1, self.ordinal, now, now, 0, None, control),
        )

    def send(self, rows: Rows) -> None:
        now = time.time_ns()
        first, self.ordinal = self.ordinal + 1, self.ordinal + len(rows)
        self._write(
            encode_records(rows, first, now, now, 0), InEntry(len(rows), first, now, now, 0, rows, None)
        )

    def _write(self, blob: bytes, entry: InEntry) -> None:
        batch = self.state.apply(entry)
        out = encode_out(
            batch, n=entry.n, first=entry.first, ts_due=entry.ts_due, ts_ingest=entry.ts_ingest, ts_book=time.time_ns(),
            stale=False, control=entry.control,
        )  # fmt: skip
        keys, offset = self.broker.keys, f"1-{entry.last}"
        self.broker.transact([
            ("XADD", keys.shard(FEED, 0, "in"), "MAXLEN", "~", 20_000, offset, "d", blob),
            ("XADD", keys.shard(FEED, 0, "out"), "MAXLEN", "~", 20_000, offset, "d", out),
        ])  # fmt: skip

    def start(self, rate: float) -> None:
        def work() -> None:
            due = time.monotonic()
            while not self._stop.is_set():
                due += 1 / rate
                self.send(self.rows(self._batch))
                self._stop.wait(max(0.0, due - time.monotonic()))

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        self.broker.close()
