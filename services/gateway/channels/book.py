"""`book`: aggregated levels; a delta is the difference of two published views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway import encode, written
from services.gateway.shards import Side, Venue
from services.gateway.topic import Topic
from shared.units import SIDE_ASK, SIDE_BID

Levels = NDArray[np.int64]  # of one side, best first: rows of price, size, count
NO_LEVELS: Levels = np.empty((0, 3), np.int64)
NO_CHANGES = b"[]"


class BookTopic(Topic):
    """The view of one instrument (and publisher) to one depth."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = encode.open_event("delta", self.head)
        self.forget()

    def forget(self) -> None:
        self._bids, self._asks, self._facts, self._times = self._read()
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            self._bids, self._asks = NO_LEVELS, NO_LEVELS

    def _read(self) -> tuple[Levels, Levels, dict[str, Any], tuple[int, int]]:
        books, instrument, depth = self.books, self.key.instrument_id, self.key.depth or None
        venue = books.lone_venue(instrument, self.key.publisher)
        if venue is not None:
            bids = books.levels.rows(venue, instrument, SIDE_BID, depth)
            asks = books.levels.rows(venue, instrument, SIDE_ASK, depth)
            crossed = bool(len(bids) and len(asks) and bids[0, 0] > asks[0, 0])
            facts: dict[str, Any] = {"crossed": crossed, "stale": books.is_stale(instrument), "auction": None}
            return bids, asks, facts, books.levels.touched(venue, instrument)[:2]
        view = books.view(instrument, self.key.publisher, depth)
        facts = {"crossed": view.crossed, "stale": view.stale, "auction": auction(view.auction)}
        if len(view.venues) > 1:
            facts["venues"] = venue_rows(view.venues)
        return _levels(view.bids), _levels(view.asks), facts, (view.ts_event, view.ts_recv)

    def chunk(self, now_ns: int) -> bytes:
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            return b""
        bids, asks, facts, times = self._read()
        bid_text = written.level_changes(bids, self._bids, is_bid=True)
        ask_text = written.level_changes(asks, self._asks, is_bid=False)
        changed = b""
        if facts != self._facts:
            changed = (
                b","
                + encode.dumps(
                    {name: value for name, value in facts.items() if self._facts.get(name) != value}
                )[1:-1]
            )
        if bid_text == ask_text == NO_CHANGES and not changed:
            return b""
        p, self.q = self.q, self.books.ordinal
        self._bids, self._asks, self._facts, self._times = bids, asks, facts, times
        return b'%b,"p":%d,"q":%d,"ts_event":"%d","ts_recv":"%d","bids":%b,"asks":%b%b%b' % (
            self._head, p, self.q, *times, bid_text, ask_text, changed,
            encode.close_event(encode.stamps(self.books.stamps, now_ns)),
        )  # fmt: skip

    def body(self) -> dict[str, Any]:
        """The whole state at `q`, as /v1/book answers it too."""
        return {
            "session": self.books.session,
            "q": self.q,
            "ts_event": str(self._times[0]),
            "ts_recv": str(self._times[1]),
            "depth": self.key.depth,
            "bids": encode.levels(self._bids.tolist()),
            "asks": encode.levels(self._asks.tolist()),
            **self._facts,
        }

    def snapshot(self, now_ns: int) -> bytes:
        stamps = encode.stamps(self.books.stamps, now_ns)
        return encode.event("snapshot", {**self.head, **self.who(), **self.body(), "stamps": stamps})


def _levels(rows: Sequence[Side]) -> Levels:
    return np.array(rows, np.int64) if rows else NO_LEVELS


def venue_rows(venues: list[Venue]) -> list[dict[str, Any]]:
    return [
        {"publisher_id": v.publisher_id, "bid": encode.best(*v.bid), "ask": encode.best(*v.ask)}
        for v in venues
    ]


def auction(pair: tuple[int, int] | None) -> dict[str, Any] | None:
    return None if pair is None else {"price": encode.price(pair[0]), "size": pair[1]}
