"""A topic: one view that any number of clients share. It turns what happened in a drain into one encoded chunk.

`q` is the shard's ordinal of the last chunk, `ring` the newest chunks as (p, q, bytes) for slow and returning clients.
A joiner gets `snapshot()`, the state at `q`, so that the next chunk follows for old and new clients alike.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from services.gateway.shards import ShardBooks
from services.gateway.vector import ShardKey

RING_BYTES = 512 * 1024  # a topic, unless its channel says otherwise
CHANNELS = ("bbo", "book", "trades", "mbo", "bars", "status")


class TopicKey(NamedTuple):
    channel: str
    shard: ShardKey
    instrument_id: int
    publisher: int | None
    depth: int  # 0: all, or not a book
    interval_ms: int
    columns: bool

    @property
    def view(self) -> str:
        """The opaque name clients see."""
        publisher = "*" if self.publisher is None else self.publisher
        return f"{self.channel}:{self.shard.feed}:{self.instrument_id}:{publisher}:{self.depth}:{self.interval_ms}"


class Topic:
    """What all channels share."""

    ring_bytes = RING_BYTES
    lossless = False  # a slow client may not miss a chunk
    starts = 0  # of all topics of the process: counted when one is made or starts over
    min_interval_s = 0.0  # between chunks, whatever the subscription says

    def __init__(self, key: TopicKey, books: ShardBooks, symbol: str, dataset: str) -> None:
        self.key, self.books, self.symbol, self.dataset = key, books, symbol, dataset
        self.view = key.view
        self.head = {"view": self.view, "symbol": symbol, "channel": key.channel}  # members of every event
        self.q = books.ordinal
        self._begin()
        self.ring: deque[tuple[int, int, bytes]] = deque()
        self._ring_size = 0
        self.since = self.q  # the ring holds everything after it
        self._start: bytes | None = None
        self.groups: set[Any] = set()
        self.idle_since = 0.0
        self.interval_s = max(key.interval_ms / 1000, self.min_interval_s)
        self.due = 0.0  # monotonic s: with an interval, not before

    # -- what a channel defines --------------------------------------------------------------------------------------

    def chunk(self, now_ns: int) -> bytes:
        """The events of everything since the last chunk, b"" if nothing changed for a reader; advances `q`."""
        raise NotImplementedError

    def snapshot(self, now_ns: int) -> bytes:
        """The events a joiner starts from: the state at `q`."""
        return b""

    def forget(self) -> None:
        """A new session or a reloaded shard: what was known is void."""

    def conflate(self) -> int:
        """The gateway itself is behind: of what waits, only the newest need be said. How many were left out."""
        return 0

    # -- common ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        Topic.starts += 1
        self.started = Topic.starts

    def reset(self) -> None:
        self._begin()
        self.forget()
        self._start = None
        self.ring.clear()
        self._ring_size = 0
        self.q = self.since = self.books.ordinal

    def start(self, now_ns: int) -> bytes:
        """`snapshot`, encoded once for all who join between two chunks."""
        if self._start is None:
            self._start = self.snapshot(now_ns)
        return self._start

    def emit(self, now_ns: int) -> bytes:
        """`chunk`, kept in the ring."""
        p = self.q
        self._start = None
        blob = self.chunk(now_ns)
        if blob:
            self.ring.append((p, self.q, blob))
            self._ring_size += len(blob)
            while self._ring_size > self.ring_bytes and len(self.ring) > 1:
                _, self.since, old = self.ring.popleft()
                self._ring_size -= len(old)
        return blob

    def after(self, ordinal: int) -> tuple[int, bytes] | None:
        """(q to stand at, chunks) that bring a client from a boundary at `ordinal` to now; None if the ring cannot."""
        if ordinal < self.since:
            return None
        missed = [(p, blob) for p, q, blob in self.ring if q > ordinal]
        return (missed[0][0] if missed else self.q), b"".join(blob for _, blob in missed)

    def who(self) -> dict[str, Any]:
        key = self.key
        return {
            "dataset": self.dataset,
            "feed": key.shard.feed,
            "instrument_id": key.instrument_id,
            "publisher_id": key.publisher,
        }

    def announce(self, resumed: bool, q: int) -> dict[str, Any]:
        """The view's row in `hello`."""
        return {
            **self.head, **self.who(), "shard": self.key.shard.shard, "session": self.books.session,
            "depth": self.key.depth, "interval_ms": self.key.interval_ms, "resumed": resumed, "q": q,
        }  # fmt: skip

    def wants(self, publisher_id: int) -> bool:
        return self.key.publisher is None or self.key.publisher == publisher_id
