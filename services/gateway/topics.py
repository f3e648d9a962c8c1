"""A topic: one view that any number of clients share. It turns what happened in a drain into one encoded chunk.

`q` is the shard's ordinal of the last chunk, `ring` the newest chunks as (p, q, bytes) for slow and returning clients.
A joiner gets `snapshot()`, the state at `q`, so that the next chunk follows for old and new clients alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from services.gateway import encode
from services.gateway.bars import Bars
from services.gateway.shards import EMPTY_SIDE, ShardBooks, Side, Venue
from services.gateway.vector import ShardKey
from shared.records import Rows

RING_BYTES = 512 * 1024  # a topic; for `mbo` RING_BYTES_MBO
RING_BYTES_MBO = 4 * 1024 * 1024
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
    has_snapshot = True

    def __init__(self, key: TopicKey, books: ShardBooks, symbol: str, dataset: str) -> None:
        self.key, self.books, self.symbol, self.dataset = key, books, symbol, dataset
        self.view = key.view
        self.q = books.ordinal
        self.ring: deque[tuple[int, int, bytes]] = deque()
        self._ring_size = 0
        self.since = self.q  # the ring holds everything after it
        self._start: bytes | None = None
        self.groups: set[Any] = set()
        self.idle_since = 0.0
        self.due = 0.0  # monotonic s: with interval_ms, not before

    # -- what a channel defines --------------------------------------------------------------------------------------

    def chunk(self, now_ns: int) -> bytes:
        """The events of everything since the last chunk, b"" if nothing changed for a reader; advances `q`."""
        raise NotImplementedError

    def snapshot(self, now_ns: int) -> bytes:
        """The events a joiner starts from: the state at `q`."""
        return b""

    def forget(self) -> None:
        """A new session or a reloaded shard: what was known is void."""

    # -- common ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
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

    def head(self) -> dict[str, Any]:
        return {"view": self.view, "symbol": self.symbol, "channel": self.key.channel}

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
            **self.head(), **self.who(), "shard": self.key.shard.shard, "session": self.books.session,
            "depth": self.key.depth, "interval_ms": self.key.interval_ms, "resumed": resumed, "q": q,
        }  # fmt: skip

    def wants(self, publisher_id: int) -> bool:
        return self.key.publisher is None or self.key.publisher == publisher_id


class BookTopic(Topic):
    """Aggregated levels: a delta is the difference of two published views."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.forget()

    def forget(self) -> None:
        self._sides: list[dict[int, tuple[int, int]]] = [{}, {}]
        self._facts: dict[str, Any] = {}
        self._times: dict[str, Any] = {}
        self._load()

    def _read(self) -> tuple[list[dict[int, tuple[int, int]]], dict[str, Any], dict[str, Any]]:
        view = self.books.view(self.key.instrument_id, self.key.publisher, self.key.depth or None)
        sides = [{px: (size, count) for px, size, count in side} for side in (view.bids, view.asks)]
        facts: dict[str, Any] = {
            "crossed": view.crossed,
            "stale": view.stale,
            "auction": auction(view.auction),
        }
        if len(view.venues) > 1:
            facts["venues"] = venue_rows(view.venues)
        return sides, facts, {"ts_event": str(view.ts_event), "ts_recv": str(view.ts_recv)}

    def _load(self) -> None:
        self._sides, self._facts, self._times = self._read()
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            self._sides = [{}, {}]

    def chunk(self, now_ns: int) -> bytes:
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            return b""
        sides, facts, times = self._read()
        bids, asks = (_difference(old, new) for old, new in zip(self._sides, sides, strict=True))
        changed = {name: value for name, value in facts.items() if self._facts.get(name) != value}
        if not (bids or asks or changed):
            return b""
        bids.reverse()
        p, self.q = self.q, self.books.ordinal
        self._sides, self._facts, self._times = sides, facts, times
        body = {
            **self.head(),
            "p": p,
            "q": self.q,
            **times,
            "bids": encode.levels(bids),
            "asks": encode.levels(asks),
            **changed,
            "stamps": encode.stamps(self.books.stamps, now_ns),
        }
        return encode.event("delta", body)

    def body(self) -> dict[str, Any]:
        """The whole state at `q`, as /v1/book answers it too."""
        bids, asks = (sorted((px, *rest) for px, rest in side.items()) for side in self._sides)
        bids.reverse()
        return {
            "session": self.books.session,
            "q": self.q,
            **self._times,
            "depth": self.key.depth,
            "bids": encode.levels(bids),
            "asks": encode.levels(asks),
            **self._facts,
        }

    def snapshot(self, now_ns: int) -> bytes:
        stamps = encode.stamps(self.books.stamps, now_ns)
        return encode.event("snapshot", {**self.head(), **self.who(), **self.body(), "stamps": stamps})


def _difference(
    old: dict[int, tuple[int, int]], new: dict[int, tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """Levels set or gone between two sides, by price."""
    if old == new:
        return []
    changed = [(px, size, count) for px, (size, count) in new.items() - old.items()]
    changed.extend((px, 0, 0) for px in old.keys() - new.keys())
    changed.sort()
    return changed


def venue_rows(venues: list[Venue]) -> list[dict[str, Any]]:
    return [
        {"publisher_id": v.publisher_id, "bid": encode.best(*v.bid), "ask": encode.best(*v.ask)}
        for v in venues
    ]


def auction(pair: tuple[int, int] | None) -> dict[str, Any] | None:
    return None if pair is None else {"price": encode.price(pair[0]), "size": pair[1]}


class BboTopic(Topic):
    """Best bid and offer at every event end at which the published one changed; conflated with an interval."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._rows: list[tuple[Any, ...]] = []
        self._last: tuple[Any, ...] | None = None
        self._venues: dict[int, tuple[Side, Side]] = {}
        self.forget()

    def forget(self) -> None:
        self._rows = []
        instrument, publisher = self.key.instrument_id, self.key.publisher
        self._last = self.books.best(instrument, publisher)
        self._venues = {v.publisher_id: (v.bid, v.ask) for v in self.books.venues(instrument, publisher)}

    def take(
        self,
        publisher: int,
        stale: bool,
        ordinal: int,
        ts_event: int,
        ts_recv: int,
        bid: Side,
        ask: Side,
        crossed: bool,
    ) -> None:
        """One venue's published change; consolidated with the other venues' newest."""
        self._venues[publisher] = (bid, ask)
        if len(self._venues) > 1:
            bid = _joined([venue[0] for venue in self._venues.values()], max)
            ask = _joined([venue[1] for venue in self._venues.values()], min)
            crossed = bid[0] > ask[0] and EMPTY_SIDE not in (bid, ask)
        if self._rows and self.key.interval_ms:
            self._rows.clear()
        self._rows.append((ordinal, ts_event, ts_recv, bid, ask, crossed, stale))

    def restate(self) -> None:
        """Staleness changed: say the current state again."""
        row = self.books.best(self.key.instrument_id, self.key.publisher)
        if row is not None:
            self._rows.append(row)

    def conflate(self) -> None:
        del self._rows[:-1]

    def chunk(self, now_ns: int) -> bytes:
        parts = []
        q = self.books.ordinal
        stamps = encode.stamps(self.books.stamps, now_ns)
        for row in self._rows:
            if self._last is None or row[3:] != self._last[3:]:
                parts.append(self._event(row, q, stamps))
                self._last = row
        self._rows = []
        if parts:
            self.q = q
        return b"".join(parts)

    def _event(self, row: tuple[Any, ...], q: int, stamps: list[Any]) -> bytes:
        ordinal, ts_event, ts_recv, bid, ask, crossed, stale = row
        body = {
            **self.head(),
            "publisher_id": self.key.publisher,
            "q": q,
            "ordinal": ordinal,
            "ts_event": str(ts_event),
            "ts_recv": str(ts_recv),
            "bid": encode.best(*bid),
            "ask": encode.best(*ask),
            "crossed": crossed,
            "stale": stale,
            "stamps": stamps,
        }
        return encode.event("bbo", body)

    def snapshot(self, now_ns: int) -> bytes:
        return (
            self._event(self._last, self.q, encode.stamps(self.books.stamps, now_ns)) if self._last else b""
        )


def _joined(sides: list[Side], better: Callable[[Iterable[int]], int]) -> Side:
    """The best price over the venues with the size and count that stand there in all of them."""
    full = [side for side in sides if side != EMPTY_SIDE]
    if not full:
        return EMPTY_SIDE
    px = better(side[0] for side in full)
    return px, sum(side[1] for side in full if side[0] == px), sum(side[2] for side in full if side[0] == px)


class TradesTopic(Topic):
    """Every trade, in order of (end, ordinal)."""

    lossless = True
    has_snapshot = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._rows: list[Any] = []

    def forget(self) -> None:
        self._rows = []

    def take(self, row: Any) -> None:
        self._rows.append(row)

    def encode(self, rows: Iterable[Any], stamps: list[Any], session: int) -> bytes:
        head = self.head()
        return b"".join(
            encode.event("trade", {**head, **encode.trade(row, session), "stamps": stamps}) for row in rows
        )

    def chunk(self, now_ns: int) -> bytes:
        rows, self._rows = self._rows, []
        self.q = self.books.ordinal
        return self.encode(rows, encode.stamps(self.books.stamps, now_ns), self.books.session)


class MboTopic(Topic):
    """Every record with its effect; the snapshot holds the orders in queue order."""

    lossless = True
    ring_bytes = RING_BYTES_MBO

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._parts: list[tuple[Rows, Rows]] = []
        self.loaded = self.books.orders_ready  # a snapshot can be made

    def forget(self) -> None:
        self._parts = []
        self.loaded = False

    def take(self, records: Rows, effects: Rows) -> None:
        self._parts.append((records, effects))

    def encode(self, records: Rows, effects: Rows, p: int, q: int, stamps: list[Any]) -> bytes:
        body = {
            **self.head(),
            "session": self.books.session,
            "p": p,
            "q": q,
            "n": len(records),
            "stamps": stamps,
        }
        if self.key.columns:
            return encode.numpy_event("mbo", {**body, **encode.mbo_columns(records, effects)})
        return encode.event("mbo", {**body, "rows": encode.mbo_rows(records, effects)})

    def chunk(self, now_ns: int) -> bytes:
        parts, self._parts = self._parts, []
        p, self.q = self.q, self.books.ordinal
        stamps = encode.stamps(self.books.stamps, now_ns)
        if len(parts) == 1:
            return self.encode(*parts[0], p, self.q, stamps)
        records = np.concatenate([part[0] for part in parts])
        effects = np.concatenate([part[1] for part in parts])
        return self.encode(records, effects, p, self.q, stamps)

    def body(self) -> dict[str, Any]:
        return self.books.orders_body(self.key.instrument_id, self.key.publisher)

    def snapshot(self, now_ns: int) -> bytes:
        if not self.loaded:
            return b""
        stamps = encode.stamps(self.books.stamps, now_ns)
        return encode.event(
            "snapshot", {**self.head(), **self.who(), **self.body(), "q": self.q, "stamps": stamps}
        )


class BarsTopic(Topic):
    """1 s and 1 m bars of trades: while they grow (conflated by the hub) and once closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._bars = Bars()

    def forget(self) -> None:
        self._bars = Bars()

    def take(self, row: Any) -> None:
        self._bars.trade(int(row["ts_recv"]), int(row["price"]), int(row["size"]), int(row["side"]))

    def tick(self, ts_recv: int) -> bool:
        """Market time has reached `ts_recv`: bars before it close; whether any did."""
        return self._bars.clock(ts_recv)

    def _events(self, bars: Iterable[tuple[dict[str, Any], bool]]) -> bytes:
        head = {**self.head(), "publisher_id": self.key.publisher, "session": self.books.session}
        return b"".join(encode.event("bar", {**head, **bar, "closed": closed}) for bar, closed in bars)

    def chunk(self, now_ns: int) -> bytes:
        self.q = self.books.ordinal
        return self._events(self._bars.take())

    def snapshot(self, now_ns: int) -> bytes:
        return self._events((bar, False) for bar in self._bars.current())


class StatusTopic(Topic):
    """State of the instrument: each event is the whole state."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._last: dict[str, Any] = {}
        self.forget()

    def forget(self) -> None:
        self._last = self._read()

    def _read(self) -> dict[str, Any]:
        status = self.books.status(self.key.instrument_id)
        return {**status, "auction": auction(status["auction"])}

    def chunk(self, now_ns: int) -> bytes:
        fresh = self._read()
        if fresh == self._last:
            return b""
        self._last, self.q = fresh, self.books.ordinal
        return self.snapshot(now_ns)

    def snapshot(self, now_ns: int) -> bytes:
        return encode.event(
            "status", {**self.head(), "session": self.books.session, "q": self.q, **self._last}
        )


KINDS: dict[str, type[Topic]] = {
    "bbo": BboTopic,
    "book": BookTopic,
    "trades": TradesTopic,
    "mbo": MboTopic,
    "bars": BarsTopic,
    "status": StatusTopic,
}
