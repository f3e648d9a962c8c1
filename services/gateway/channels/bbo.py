"""`bbo`: best bid and offer at every event end at which the published one changed; conflated with an interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from services.gateway import encode, written
from services.gateway.shards import EMPTY_SIDE, BestRow, Side
from services.gateway.topic import Topic
from shared.records import BBO, BOOK_CROSSED, Rows


class BboTopic(Topic):
    """One venue's best prices, or those of all venues of the instrument together."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = encode.open_event("bbo", {**self.head, "publisher_id": self.key.publisher})
        self._parts: list[
            tuple[Rows, bool]
        ] = []  # rows of layout BBO, of other instruments too, and staleness
        self._newest_only = False
        self.forget()

    def forget(self) -> None:
        self._parts = []
        self._last = written.Said()
        instrument, publisher = self.key.instrument_id, self.key.publisher
        venues = self.books.venues(instrument, publisher)
        self._venues = {v.publisher_id: (v.bid, v.ask) for v in venues}
        best = self.books.best(instrument, publisher)
        if best is not None:
            self._text([(self._rows([(best, venues[0].publisher_id)]), best[6])], [])

    def _rows(self, found: list[tuple[BestRow, int]]) -> Rows:
        """(best prices, the venue that changed) as rows of layout BBO."""
        instrument = self.key.instrument_id
        return np.array(
            [
                (ordinal, ts_event, ts_recv, instrument, publisher, BOOK_CROSSED if crossed else 0, 0,
                 bid[0], ask[0], bid[1], ask[1], bid[2], ask[2])
                for (ordinal, ts_event, ts_recv, bid, ask, crossed, _), publisher in found
            ],
            BBO,
        )  # fmt: skip

    def take(self, rows: Rows, stale: bool) -> None:
        """Published changes of venues, layout BBO, of other instruments too; consolidated if there are several."""
        if self.key.publisher is None and len(self.books.publishers[self.key.instrument_id]) > 1:
            rows = self._consolidated(rows[rows["instrument_id"] == self.key.instrument_id])
        self._parts.append((rows, stale))

    def _consolidated(self, rows: Rows) -> Rows:
        if len(self._venues) < 2:
            self._venues = self._lone_venue()
        found: list[tuple[BestRow, int]] = []
        for row in rows.tolist():
            ordinal, ts_event, ts_recv, _, publisher, flags, _, bid, ask, bid_sz, ask_sz, bid_ct, ask_ct = row
            self._venues[publisher] = (bid, bid_sz, bid_ct), (ask, ask_sz, ask_ct)
            crossed = flags & BOOK_CROSSED != 0
            best_bid, best_ask = self._venues[publisher]
            if len(self._venues) > 1:
                best_bid = _joined([venue[0] for venue in self._venues.values()], max)
                best_ask = _joined([venue[1] for venue in self._venues.values()], min)
                crossed = best_bid[0] > best_ask[0] and EMPTY_SIDE not in (best_bid, best_ask)
            found.append(((ordinal, ts_event, ts_recv, best_bid, best_ask, crossed, False), publisher))
        return self._rows(found)

    def _lone_venue(self) -> dict[int, tuple[Side, Side]]:
        """Best prices of the venue that was alone until now: of what waits, else of what was said last."""
        said = [] if self._last.is_empty else [self._last.row(self.key.instrument_id)]
        for rows in (*(rows for rows, _ in reversed(self._parts)), *said):
            mine = rows[rows["instrument_id"] == self.key.instrument_id]
            if len(mine):
                publisher, _, _, bid, ask, bid_sz, ask_sz, bid_ct, ask_ct = mine[-1].item()[4:]
                return {publisher: ((bid, bid_sz, bid_ct), (ask, ask_sz, ask_ct))}
        return {}

    def restate(self) -> None:
        """Staleness changed: say the current state again."""
        best = self.books.best(self.key.instrument_id, self.key.publisher)
        if best is not None:
            publisher = (
                self.books.publishers[self.key.instrument_id][0]
                if self.key.publisher is None
                else self.key.publisher
            )
            self._parts.append((self._rows([(best, publisher)]), best[6]))

    def conflate(self) -> int:
        self._newest_only = True
        return max(sum(len(self._mine(rows)) for rows, _ in self._parts) - 1, 0)

    def _mine(self, rows: Rows) -> Rows:
        mine = rows["instrument_id"] == self.key.instrument_id
        if self.key.publisher is not None:
            mine &= rows["publisher_id"] == self.key.publisher
        found: Rows = rows[mine]
        return found

    def chunk(self, now_ns: int) -> bytes:
        parts, self._parts = self._parts, []
        if self._newest_only or self.interval_s:
            parts = [
                (mine[-1:], stale)
                for mine, stale in ((self._mine(rows), stale) for rows, stale in parts)
                if len(mine)
            ]
            parts, self._newest_only = parts[-1:], False
        blob = self._text(parts, encode.stamps(self.books.stamps, now_ns), self.books.ordinal)
        if blob:
            self.q = self.books.ordinal
        return blob

    def snapshot(self, now_ns: int) -> bytes:
        if self._last.is_empty:
            return b""
        rows = self._last.row(self.key.instrument_id)
        said = encode.stamps(self.books.stamps, now_ns)
        return self._text([(rows, self._last.stale)], said, self.q, anyway=True)

    def _text(
        self, parts: list[tuple[Rows, bool]], said: list[Any], q: int = 0, *, anyway: bool = False
    ) -> bytes:
        head, tail = b'%b,"q":%d' % (self._head, q), encode.close_event(said)
        instrument, publisher = self.key.instrument_id, self.key.publisher
        return b"".join([
            written.bbo_events(
                rows, instrument, publisher, stale=stale, last=self._last, head=head, tail=tail, anyway=anyway
            )
            for rows, stale in parts
        ])  # fmt: skip


def _joined(sides: list[Side], better: Callable[[Iterable[int]], int]) -> Side:
    """The best price over the venues with the size and count that stand there in all of them."""
    full = [side for side in sides if side != EMPTY_SIDE]
    if not full:
        return EMPTY_SIDE
    px = better(side[0] for side in full)
    return px, sum(side[1] for side in full if side[0] == px), sum(side[2] for side in full if side[0] == px)
