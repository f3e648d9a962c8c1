"""`--drain`: know when every stage has committed all of an ended source, then take leave of clients and print books."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any, Protocol

from shared import images, logs
from shared.admin import admin_open
from shared.broker import Broker
from shared.errors import BrokerLost, MboError
from shared.orderbook.lines import final_lines
from shared.registration import living

log = logs.get("launcher")

POLL_S = 0.1
GATEWAY_S = 30.0
READERS = ("book", "persist")


class _Config(Protocol):
    @property
    def prefix(self) -> str: ...
    @property
    def data(self) -> Path: ...
    @property
    def gateways(self) -> int: ...


class Drain:
    """Polls the broker: ended sessions, offsets at the streams' ends, images of the end, then the gateways."""

    def __init__(self, url: str, config: _Config) -> None:
        self.broker = Broker(url, config.prefix, name="drain")
        self.config = config
        self.readers: tuple[str, ...] = READERS
        self._poll_at = 0.0

    def is_done(self) -> bool:
        """Whether every stage has committed everything; asks the gateways to say goodbye when the others are done."""
        if time.monotonic() < self._poll_at:
            return False
        self._poll_at = time.monotonic() + POLL_S
        try:
            return self._stages_done() and self._gateways_done()
        except BrokerLost:
            return False

    def _shards(self) -> list[tuple[str, int]]:
        found = []
        for name in sorted(self.broker.call("SMEMBERS", self.broker.keys.feeds)):
            feed = name.decode()
            shards = int(self.broker.hash(self.broker.keys.feed(feed, "meta")).get("shards", 0))
            found += [(feed, shard) for shard in range(shards)]
        return found

    def _stages_done(self) -> bool:
        keys = self.broker.keys
        shards = self._shards()
        feeds = {feed for feed, _ in shards}
        if not feeds or len(feeds) < self.broker.call("SCARD", keys.feeds):
            return False
        if any(self.broker.call("HGET", keys.feed(feed, "meta"), "state") != b"ended" for feed in feeds):
            return False
        tails = self.broker.last_ids([keys.shard(feed, shard, "in") for feed, shard in shards])
        rows = self.broker.pipe(
            [("HMGET", keys.shard(feed, shard, "pos"), *self.readers, "book_image") for feed, shard in shards]
        )
        # A stream that has been trimmed to nothing has been taken by every reader.
        return all(
            all(offset is not None and (tail is None or offset == tail.id) for offset in row)
            for tail, row in zip(tails, rows, strict=True)
        )

    def _gateways_done(self) -> bool:
        admins = [row["admin"] for row in living(self.broker) if row["role"] == "gateway"]
        if len(admins) < self.config.gateways:
            return False
        for admin in admins:
            request = urllib.request.Request(f"{admin}/drain", method="POST")  # noqa: S310 - our own admin port
            try:
                with admin_open(request, GATEWAY_S) as answer:
                    log.info("gateway drained", admin=admin, answer=json.load(answer))
            except OSError as error:
                log.warning("gateway not drained", admin=admin, detail=str(error))
        return True

    def write_books(self) -> Path:
        """`DIR/final-books.jsonl`: the books at the end, in the format of `mbo rebuild --every final`."""
        lines: list[str] = []
        for feed, shard in self._shards():
            found: list[dict[str, Any]] = images.pointers(self.broker, feed, shard)
            if not found:
                raise MboError(f"shard {feed}:{shard:02d} has no image of its end")
            state = images.load(self.broker, found[0])
            lines += final_lines(state.engine, state.symbols)
        path = self.config.data / "final-books.jsonl"
        path.write_text("".join(line + "\n" for line in sorted(lines)), encoding="utf-8")
        log.info("final books written", path=str(path), books=len(lines))
        self.broker.close()
        return path
