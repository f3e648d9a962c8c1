"""A feed as ingest and a book worker write it, made by hand: what a gateway reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from shared import images
from shared.broker import Broker
from shared.orderbook.shard import ShardState
from shared.records import Rows
from shared.wire.codec import InEntry, encode_control, encode_out, encode_records
from shared.wire.keys import shard_of, stream_id


class Feed:
    """What ingest and book workers leave in the broker, made in step: `records` appends to `:in` and commits `:out`."""

    def __init__(
        self, broker: Broker, name: str = "test.feed", *, shards: int = 1, policy: str = "uncross",
        symbols: Mapping[int, str] | None = None, source: str = "test",
    ) -> None:  # fmt: skip
        self.broker, self.name, self.shards, self.policy = broker, name, shards, policy
        self.symbols = dict(symbols or {1: "ONE"})
        self.source = source
        self.session = 0
        self.states: dict[int, ShardState] = {}
        self.ordinals: dict[int, int] = {}
        self.publish = True  # False: `:in` grows, `:out` does not
        self.waiting: list[tuple[int, InEntry]] = []
        self.begin()

    def begin(self, symbols: Mapping[int, str] | None = None) -> None:
        """The next session, with its mappings."""
        self.session += 1
        if symbols is not None:
            self.symbols = dict(symbols)
        keys = self.broker.keys
        meta = {
            "shards": self.shards,
            "policy": self.policy,
            "dataset": self.name.upper(),
            "session": self.session,
            "state": "open",
            "readers": "book",
            "identity": f"{self.source} {self.session}",
        }
        self.broker.call(
            "HSET", keys.feed(self.name, "meta"), *[part for pair in meta.items() for part in pair]
        )
        self.ordinals = dict.fromkeys(range(self.shards), 0)
        for number, symbol in self.symbols.items():
            row = {"symbol": symbol, "publishers": [], "tick_px": 10_000_000}
            self.broker.call("HSET", keys.feed(self.name, "instruments"), number, json.dumps(row))
        self.broker.call("SADD", keys.feeds, self.name)
        for shard in range(self.shards):
            self.states.setdefault(shard, ShardState(self.policy, kind="reference"))  # type: ignore[arg-type]
            self.control(
                {
                    "type": "begin",
                    "session": self.session,
                    "policy": self.policy,
                    "dataset": self.name.upper(),
                    "identity": f"{self.source} {self.session}",
                    "spec": {},
                    "ts": 0,
                    "repaired": False,
                },
                shard,
            )
        for number, symbol in self.symbols.items():
            self.control(
                {"type": "mapping", "instrument_id": number, "symbol": symbol}, shard_of(number, self.shards)
            )

    def control(self, control: dict[str, Any], shard: int = 0) -> None:
        first = self._append(shard, 1, lambda n: encode_control(control, n, self.now(), self.now(), 0))
        self._commit(shard, InEntry(1, first, self.now(), self.now(), 0, None, control))

    def records(self, rows: Rows, shard: int = 0) -> None:
        """One entry of records that all belong to the shard."""
        first = self._append(shard, len(rows), lambda n: encode_records(rows, n, self.now(), self.now(), 0))
        self._commit(shard, InEntry(len(rows), first, self.now(), self.now(), 0, rows, None))

    def end(self) -> None:
        for shard in range(self.shards):
            self.control({"type": "end", "reason": "test"}, shard)
        self.broker.call("HSET", self.broker.keys.feed(self.name, "meta"), "state", "ended")

    @staticmethod
    def now() -> int:
        return time.time_ns()

    def _append(self, shard: int, n: int, encode: Callable[[int], bytes]) -> int:
        first = self.ordinals[shard] + 1
        self.ordinals[shard] += n
        name = self.broker.keys.shard(self.name, shard, "in")
        self.broker.call("XADD", name, stream_id(self.session, self.ordinals[shard]), "d", encode(first))
        return first

    def _commit(self, shard: int, entry: InEntry) -> None:
        self.waiting.append((shard, entry))
        if self.publish:
            self.release()

    def release(self) -> None:
        """Commit what waits."""
        for shard, entry in self.waiting:
            state = self.states[shard]
            batch = state.apply(entry)
            blob = encode_out(
                batch, n=entry.n, first=entry.first, ts_due=entry.ts_due, ts_ingest=entry.ts_ingest, ts_book=self.now(),
                stale=state.stale, control=entry.control,
            )  # fmt: skip
            name = self.broker.keys.shard(self.name, shard, "out")
            self.broker.call("XADD", name, stream_id(self.session, entry.last), "d", blob)
        self.waiting.clear()

    def image(self, shard: int = 0) -> None:
        """Leave an image of the shard as it is, and the previous one."""
        state, keys = self.states[shard], self.broker.keys
        offset = stream_id(state.session, state.ordinal)
        staged = images.stage(
            self.broker, keys.shard(self.name, shard, f"img:{offset}:t"), offset, time.time(), state.image()
        )
        img = keys.shard(self.name, shard, "img")
        if previous := self.broker.call("HGET", img, "newest"):
            self.broker.call("HSET", img, "previous", previous)
        self.broker.call("HSET", img, "newest", staged.pointer)

    def trim(self, stream: str, ordinal: int, shard: int = 0) -> None:
        """Remove entries that end before `ordinal`."""
        name = self.broker.keys.shard(self.name, shard, stream)
        self.broker.call("XTRIM", name, "MINID", stream_id(self.session, ordinal))
