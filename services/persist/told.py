"""What the broker was told of a feed: each shard's stored offset, and which run it speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.persist.runs import Run
from shared import logs
from shared.broker import Broker
from shared.wire.codec import decode_in
from shared.wire.keys import stream_id

log = logs.get("persist")

MARKER = "persist_run"  # field of `:pos`: which run our offset speaks of


class Stored(NamedTuple):
    """Up to where a shard is durable."""

    shard: int
    run: Run
    offset: int


class Told:
    """Reports offsets to `{feed:NN}:pos`, and notices a broker that no longer knows them."""

    def __init__(self, broker: Broker, feed: str) -> None:
        self._broker, self._feed = broker, feed
        self._last: dict[int, Stored] = {}

    def report(self, found: Iterable[Stored]) -> None:
        commands = []
        for shard, run, offset in found:
            before = self._last.get(shard)
            log.debug(
                "stored", feed=self._feed, session=run.session, shard=shard, ordinal=offset,
                n=offset - (before.offset if before and before.run is run else 0),
            )  # fmt: skip
            self._last[shard] = Stored(shard, run, offset)
            key = self._broker.keys.shard(self._feed, shard, "pos")
            commands.append(("HSET", key, "persist", stream_id(run.session, offset), MARKER, run.marker))
        if commands:
            self._broker.pipe(commands)

    def is_lost(self) -> bool:
        """Whether the broker lost what it was told, with its data: so our place in it means nothing."""
        if not self._last:
            return False
        keys = self._broker.keys
        meta, *markers = self._broker.pipe(
            [("HGET", keys.feed(self._feed, "meta"), "session")]
            + [("HGET", keys.shard(self._feed, shard, "pos"), MARKER) for shard in self._last]
        )
        runs = [stored.run for stored in self._last.values()]
        if meta is None or int(meta) < max(run.session for run in runs):
            return True
        return any(
            marker is None or marker.decode() != run.marker for run, marker in zip(runs, markers, strict=True)
        )

    def is_same(self, run: Run, shard: int, session: int) -> bool:
        """Whether the broker's session with this number is the one recorded: it may have lost all and begun again."""
        if run.session < session:
            return True  # the end of an older session, then the newer ones
        keys = self._broker.keys
        marker, head = self._broker.pipe([
            ("HGET", keys.shard(self._feed, shard, "pos"), MARKER),
            ("XRANGE", keys.shard(self._feed, shard, "in"), stream_id(session, 1), stream_id(session, 1)),
        ])  # fmt: skip
        if head:
            return run.began_with(decode_in(head[0][1][1]).control or {})
        return marker is not None and marker.decode() == run.marker

    def forget(self) -> None:
        self._last.clear()
