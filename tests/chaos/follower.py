"""A reader of every `:out` stream: finds gaps and duplicates, and folds levels into books of its own."""

from __future__ import annotations

import threading
import time

from shared.broker import Broker
from shared.errors import MboError
from shared.units import SIDE_BID
from shared.wire.codec import decode_out
from shared.wire.keys import parse_id

Books = dict[tuple[int, int], tuple[dict[int, list[int]], dict[int, list[int]]]]


class Follower(threading.Thread):
    """Reads until `stop`; `position` is (session, ordinal) by shard."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._broker = Broker(url, name="follower")
        self.books: Books = {}
        self.position: dict[str, tuple[int, int]] = {}
        self.gaps: list[str] = []
        self.overlaps = 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        streams: list[str] = []
        while not self._stop_asked.is_set():
            try:
                streams = streams or self._streams()
                self.read(streams)
            except MboError:
                time.sleep(0.05)

    def _streams(self) -> list[str]:
        keys, found = self._broker.keys, []
        for name in self._broker.call("SMEMBERS", keys.feeds):
            shards = int(self._broker.hash(keys.feed(name.decode(), "meta")).get("shards", 0))
            found += [keys.shard(name.decode(), shard, "out") for shard in range(shards)]
        return found

    def read(self, streams: list[str], block_ms: int = 100) -> int:
        """Take what is new. An overlap is a broker that came back earlier than we are; a gap is a fault."""
        tails = self._broker.last_ids(streams)
        for stream, tail in zip(streams, tails, strict=True):
            end = parse_id(tail.id) if tail else (0, 0)
            if end < self.position.get(stream, (0, 0)):
                self.overlaps += 1
                self.position[stream] = end
        after = {stream: "{}-{}".format(*self.position.get(stream, (0, 0))) for stream in streams}
        found = self._broker.read(after, count=100, block_ms=block_ms)
        for stream, entries in found.items():
            for raw in entries:
                self._take(stream, raw.id, raw.d)
        return sum(map(len, found.values()))

    def _take(self, stream: str, entry_id: bytes, blob: bytes) -> None:
        session, last = parse_id(entry_id)
        entry = decode_out(blob)
        have = self.position.get(stream, (0, 0))
        if session == have[0] and entry.first > have[1] + 1:
            self.gaps.append(f"{stream}: {have[1] + 1} to {entry.first - 1}")
        self.position[stream] = (session, last)
        if entry.control is not None and entry.control["type"] == "begin":
            return
        for row in entry.batch.levels:
            key = (int(row["publisher_id"]), int(row["instrument_id"]))
            side = self.books.setdefault(key, ({}, {}))[0 if row["side"] == SIDE_BID else 1]
            if row["count"]:
                side[int(row["price"])] = [int(row["size"]), int(row["count"])]
            else:
                side.pop(int(row["price"]), None)

    def stop(self) -> None:
        """End the thread and read what is left."""
        self._stop_asked.set()
        self.join(10)
        streams = self._streams()
        while self.read(streams, block_ms=0):
            pass
        self._broker.close()
