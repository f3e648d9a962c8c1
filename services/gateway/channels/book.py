"""`book`: aggregated levels; a delta is the difference of two published views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.gateway import encode
from services.gateway.shards import Side, Venue
from services.gateway.topic import Topic

Levels = dict[int, Side]  # one side by price, best first as the view has it


class BookTopic(Topic):
    """The view of one instrument (and publisher) to one depth."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.forget()

    def forget(self) -> None:
        self._bids, self._asks, self._facts, self._times = self._read()
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            self._bids, self._asks = {}, {}

    def _read(self) -> tuple[Levels, Levels, dict[str, Any], dict[str, str]]:
        view = self.books.view(self.key.instrument_id, self.key.publisher, self.key.depth or None)
        facts: dict[str, Any] = {
            "crossed": view.crossed,
            "stale": view.stale,
            "auction": auction(view.auction),
        }
        if len(view.venues) > 1:
            facts["venues"] = venue_rows(view.venues)
        times = {"ts_event": str(view.ts_event), "ts_recv": str(view.ts_recv)}
        return by_price(view.bids), by_price(view.asks), facts, times

    def chunk(self, now_ns: int) -> bytes:
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            return b""
        bids, asks, facts, times = self._read()
        bid_rows, ask_rows = difference(self._bids, bids), difference(self._asks, asks)
        changed = (
            {}
            if facts == self._facts
            else {name: value for name, value in facts.items() if self._facts.get(name) != value}
        )
        if not (bid_rows or ask_rows or changed):
            return b""
        bid_rows.reverse()
        p, self.q = self.q, self.books.ordinal
        self._bids, self._asks, self._facts, self._times = bids, asks, facts, times
        body = {
            **self.head,
            "p": p,
            "q": self.q,
            **times,
            "bids": encode.levels(bid_rows),
            "asks": encode.levels(ask_rows),
            **changed,
            "stamps": encode.stamps(self.books.stamps, now_ns),
        }
        return encode.event("delta", body)

    def body(self) -> dict[str, Any]:
        """The whole state at `q`, as /v1/book answers it too."""
        return {
            "session": self.books.session,
            "q": self.q,
            **self._times,
            "depth": self.key.depth,
            "bids": encode.levels(self._bids.values()),
            "asks": encode.levels(self._asks.values()),
            **self._facts,
        }

    def snapshot(self, now_ns: int) -> bytes:
        stamps = encode.stamps(self.books.stamps, now_ns)
        return encode.event("snapshot", {**self.head, **self.who(), **self.body(), "stamps": stamps})


def by_price(levels: Sequence[Side]) -> Levels:
    return {level[0]: level for level in levels}


def difference(old: Levels, new: Levels) -> list[Side]:
    """Levels set (as they are) or gone (size and count 0) between two sides, by price."""
    if old == new:
        return []
    changed = [level for px, level in new.items() if old.get(px) != level]
    if gone := old.keys() - new.keys():
        changed.extend((px, 0, 0) for px in gone)
    changed.sort()
    return changed


def venue_rows(venues: list[Venue]) -> list[dict[str, Any]]:
    return [
        {"publisher_id": v.publisher_id, "bid": encode.best(*v.bid), "ask": encode.best(*v.ask)}
        for v in venues
    ]


def auction(pair: tuple[int, int] | None) -> dict[str, Any] | None:
    return None if pair is None else {"price": encode.price(pair[0]), "size": pair[1]}
