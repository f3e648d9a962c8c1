"""`book`: aggregated levels; a delta is the difference of two published views."""

from __future__ import annotations

from typing import Any

from services.gateway import encode
from services.gateway.shards import Venue
from services.gateway.topic import Topic
from services.gateway.written import SaidSide
from shared.units import SIDE_ASK, SIDE_BID

NO_CHANGES = b"[]"


class BookTopic(Topic):
    """The view of one instrument (and publisher) to one depth."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = encode.open_event("delta", self.head)
        self.forget()

    def forget(self) -> None:
        self._bids, self._asks = SaidSide(SIDE_BID), SaidSide(SIDE_ASK)
        _, _, self._facts, self._times = self._move()
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            self._bids, self._asks = SaidSide(SIDE_BID), SaidSide(SIDE_ASK)

    def _move(self) -> tuple[bytes, bytes, dict[str, Any], tuple[int, int]]:
        """Go to the view as it is: what changes of its bids and asks, what else is so, and its times."""
        books, instrument, depth = self.books, self.key.instrument_id, self.key.depth or None
        venue = books.lone_venue(instrument, self.key.publisher)
        if venue is not None:
            bids = self._bids.move(*books.levels.side(venue, instrument, SIDE_BID, depth))
            asks = self._asks.move(*books.levels.side(venue, instrument, SIDE_ASK, depth))
            bid, ask = self._bids.best, self._asks.best
            crossed = bid is not None and ask is not None and bid > ask
            facts: dict[str, Any] = {"crossed": crossed, "stale": books.is_stale(instrument), "auction": None}
            return bids, asks, facts, books.levels.touched(venue, instrument)[:2]
        view = books.view(instrument, self.key.publisher, depth)
        facts = {"crossed": view.crossed, "stale": view.stale, "auction": auction(view.auction)}
        if len(view.venues) > 1:
            facts["venues"] = venue_rows(view.venues)
        times = view.ts_event, view.ts_recv
        return self._bids.move_to(view.bids), self._asks.move_to(view.asks), facts, times

    def chunk(self, now_ns: int) -> bytes:
        if self.books.hidden(self.key.instrument_id, self.key.publisher):
            return b""
        bids, asks, facts, times = self._move()
        changed = b""
        if facts != self._facts:
            changed = (
                b","
                + encode.dumps(
                    {name: value for name, value in facts.items() if self._facts.get(name) != value}
                )[1:-1]
            )
        if bids == asks == NO_CHANGES and not changed:
            return b""
        p, self.q = self.q, self.books.ordinal
        self._facts, self._times = facts, times
        return b'%b,"p":%d,"q":%d,"ts_event":"%d","ts_recv":"%d","bids":%b,"asks":%b%b%b' % (
            self._head, p, self.q, *times, bids, asks, changed,
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
            "bids": encode.levels(self._bids.levels()),
            "asks": encode.levels(self._asks.levels()),
            **self._facts,
        }

    def snapshot(self, now_ns: int) -> bytes:
        stamps = encode.stamps(self.books.stamps, now_ns)
        return encode.event("snapshot", {**self.head, **self.who(), **self.body(), "stamps": stamps})


def venue_rows(venues: list[Venue]) -> list[dict[str, Any]]:
    return [
        {"publisher_id": v.publisher_id, "bid": encode.best(*v.bid), "ask": encode.best(*v.ask)}
        for v in venues
    ]


def auction(pair: tuple[int, int] | None) -> dict[str, Any] | None:
    return None if pair is None else {"price": encode.price(pair[0]), "size": pair[1]}
