"""`bbo`: best bid and offer at every event end at which the published one changed; conflated with an interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.gateway import encode
from services.gateway.shards import EMPTY_SIDE, BestRow, Side
from services.gateway.topic import Topic


class BboTopic(Topic):
    """One venue's best prices, or those of all venues of the instrument together."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._rows: list[BestRow] = []
        self._last: BestRow | None = None
        self._venues: dict[int, tuple[Side, Side]] = {}
        self.forget()

    def forget(self) -> None:
        self._rows = []
        instrument, publisher = self.key.instrument_id, self.key.publisher
        self._last = self.books.best(instrument, publisher)
        self._venues = {v.publisher_id: (v.bid, v.ask) for v in self.books.venues(instrument, publisher)}

    def take(self, publisher: int, row: BestRow) -> None:
        """One venue's published change; consolidated with the other venues' newest."""
        self._venues[publisher] = row[3:5]
        if len(self._venues) > 1:
            bid = _joined([venue[0] for venue in self._venues.values()], max)
            ask = _joined([venue[1] for venue in self._venues.values()], min)
            crossed = bid[0] > ask[0] and EMPTY_SIDE not in (bid, ask)
            row = (*row[:3], bid, ask, crossed, row[6])
        if self._rows and self.interval_s:
            self._rows.clear()
        self._rows.append(row)

    def restate(self) -> None:
        """Staleness changed: say the current state again."""
        row = self.books.best(self.key.instrument_id, self.key.publisher)
        if row is not None:
            self._rows.append(row)

    def conflate(self) -> int:
        left_out = max(len(self._rows) - 1, 0)
        del self._rows[:-1]
        return left_out

    def _changes(self) -> list[BestRow]:
        """Of the rows taken, those that say something new."""
        found, last = [], self._last
        for row in self._rows:
            if last is None or row[3:] != last[3:]:
                found.append(row)
                last = row
        self._rows, self._last = [], last
        return found

    def chunk(self, now_ns: int) -> bytes:
        changes = self._changes()
        if changes:
            self.q = self.books.ordinal
        return self._events(changes, now_ns)

    def snapshot(self, now_ns: int) -> bytes:
        return self._events([self._last] if self._last else [], now_ns)

    def _events(self, rows: list[BestRow], now_ns: int) -> bytes:
        head = {**self.head, "publisher_id": self.key.publisher, "q": self.q}
        return encode.bbo_events(head, rows, encode.stamps(self.books.stamps, now_ns))


def _joined(sides: list[Side], better: Callable[[Iterable[int]], int]) -> Side:
    """The best price over the venues with the size and count that stand there in all of them."""
    full = [side for side in sides if side != EMPTY_SIDE]
    if not full:
        return EMPTY_SIDE
    px = better(side[0] for side in full)
    return px, sum(side[1] for side in full if side[0] == px), sum(side[2] for side in full if side[0] == px)
