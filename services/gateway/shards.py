"""What the gateway knows of one shard at one ordinal: levels of all its books, overlays, best prices, status.

All rows of a drain are folded with array operations; Python objects are made only of instruments somebody looks at.
Single-threaded: the hub's loop owns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from services.gateway.vector import ShardKey
from shared.orderbook.engine import NOTHING, Batch, Level
from shared.orderbook.levels import LevelBooks
from shared.orderbook.shard import ShardState
from shared.orderbook.views import consolidated, overlaid
from shared.records import BOOK_CROSSED, BOOK_MAYBE_BAD, BOOK_SNAPSHOT
from shared.units import SIDE_ASK, SIDE_BID, UNDEF_PX

BOUNDARIES = 8192  # drain positions remembered for exact resumes
EMPTY_SIDE = (UNDEF_PX, 0, 0)
Side = tuple[int, int, int]
BestRow = tuple[int, int, int, Side, Side, bool, bool]  # ordinal, ts_event, ts_recv, bid, ask, crossed, stale


class Venue(NamedTuple):
    publisher_id: int
    bid: Side
    ask: Side


class View(NamedTuple):
    """A published view: bids and asks best first, at the last event end folded."""

    bids: Sequence[Side]
    asks: Sequence[Side]
    ts_event: int
    ts_recv: int
    crossed: bool
    stale: bool
    auction: tuple[int, int] | None
    venues: list[Venue]


class Overlay(NamedTuple):
    """An AUCTION row in force: the indicative price and size, and the first remaining level of each side."""

    price: int
    size: int
    bid: Side
    ask: Side


class ShardBooks:
    """Fold of one shard's `:out`."""

    def __init__(self, key: ShardKey, policy: str) -> None:
        self.key, self.policy = key, policy
        self.session = 0
        self.ordinal = 0
        self.stale = False
        self.gap = False  # the reader could not repair its position: our own staleness
        self.ended = False
        self.stamps = (0, 0, 0)
        self.arrived = 0.0  # monotonic s of the last entry
        self.boundaries: deque[int] = deque(maxlen=BOUNDARIES)
        self.clear()

    def clear(self) -> None:
        """No books at all: a session begins, or the shard is loaded anew."""
        self.levels = LevelBooks()
        self.overlays: dict[tuple[int, int], Overlay] = {}
        self.publishers: dict[int, list[int]] = {}
        self.symbols: dict[int, str] = {}
        self.halts: dict[int, dict[str, Any]] = {}
        self.stale_instruments: set[int] = set()
        self.boundaries.clear()
        self.ended = False
        self.orders: ShardState | None = None

    # -- folding -----------------------------------------------------------------------------------------------------

    def load(self, state: ShardState) -> None:
        """Start from an image."""
        self.clear()
        self.session, self.ordinal = state.session, state.ordinal
        self.stale, self.ended = state.stale, state.ended
        self.symbols = dict(state.symbols)
        engine = state.engine
        rows = NOTHING._replace(
            levels=engine.level_rows(), auctions=engine.auction_rows(), touched=engine.touched_rows()
        )
        self.fold(rows)
        self.boundaries.append(self.ordinal)

    def _meet(self, publisher: int, instrument: int) -> None:
        self.publishers.setdefault(instrument, []).append(publisher)
        self.publishers[instrument].sort()

    def _overlay(self, row: Any) -> None:
        key = (int(row["publisher_id"]), int(row["instrument_id"]))
        if not row["present"]:
            self.overlays.pop(key, None)
            return
        bid = (int(row["bid_px"]), int(row["bid_sz"]), int(row["bid_ct"]))
        ask = (int(row["ask_px"]), int(row["ask_sz"]), int(row["ask_ct"]))
        self.overlays[key] = Overlay(int(row["price"]), int(row["size"]), bid, ask)

    def fold(self, batch: Batch) -> list[tuple[int, int]]:
        """Apply one entry's rows; (publisher, instrument) of books new to us."""
        if len(batch.levels):
            self.levels.fold(batch.levels)
        for row in batch.auctions:
            self._overlay(row)
        fresh = self.levels.touch(batch.touched)
        for publisher, instrument in fresh:
            self._meet(publisher, instrument)
        return fresh

    def forget_instrument(self, instrument: int) -> None:
        """A mapping gave the id another symbol: its books are empty."""
        self.levels.clear(instrument_id=instrument)
        for publisher in self.publishers.get(instrument, ()):
            self.overlays.pop((publisher, instrument), None)

    def status_control(self, control: Mapping[str, Any]) -> None:
        ts = control.get("ts")
        self.halts[int(control["instrument_id"])] = {
            "state": str(control.get("action", "open")),
            "reason": control.get("reason") or None,
            "ts": str(ts) if ts else None,
        }

    # -- reading -----------------------------------------------------------------------------------------------------

    def _of(self, instrument: int, publisher: int | None) -> list[int]:
        known = self.publishers.get(instrument, [])
        return known if publisher is None else [p for p in known if p == publisher]

    def _flags(self, instrument: int, publisher: int | None) -> int:
        """BOOK_* flags of all venues asked for, together."""
        flags = 0
        for each in self._of(instrument, publisher):
            flags |= self.levels.touched(each, instrument)[2]
        return flags

    def hidden(self, instrument: int, publisher: int | None) -> bool:
        """A snapshot from the venue is under way: the book is not to be published."""
        return bool(self._flags(instrument, publisher) & BOOK_SNAPSHOT)

    def is_stale(self, instrument: int) -> bool:
        if self.stale or self.gap or instrument in self.stale_instruments:
            return True
        return bool(self._flags(instrument, None) & BOOK_MAYBE_BAD)

    def _side(self, publisher: int, instrument: int, side: int, limit: int | None) -> Sequence[Side]:
        """Published levels of one venue: raw, without those better than the overlay's level, that one replaced."""
        overlay = self.overlays.get((publisher, instrument))
        if overlay is None:
            return self._raw(publisher, instrument, side, limit)
        first = Level(*(overlay.bid if side == SIDE_BID else overlay.ask))
        raw = [Level(*level) for level in self._raw(publisher, instrument, side, None)]
        return overlaid(raw, first, side)[:limit]

    def _raw(self, publisher: int, instrument: int, side: int, limit: int | None) -> list[Side]:
        prices, sizes, counts = self.levels.top(publisher, instrument, side, limit)
        return list(zip(prices.tolist(), sizes.tolist(), counts.tolist(), strict=True))

    def lone_venue(self, instrument: int, publisher: int | None) -> int | None:
        """The venue whose raw book is the published view: the only one asked for, without an overlay."""
        venues = self._of(instrument, publisher)
        return venues[0] if len(venues) == 1 and (venues[0], instrument) not in self.overlays else None

    def venue(self, publisher: int, instrument: int) -> Venue:
        bid = self._side(publisher, instrument, SIDE_BID, 1)
        ask = self._side(publisher, instrument, SIDE_ASK, 1)
        return Venue(publisher, _first(bid), _first(ask))

    def venues(self, instrument: int, publisher: int | None) -> list[Venue]:
        return [self.venue(p, instrument) for p in self._of(instrument, publisher)]

    def view(self, instrument: int, publisher: int | None, limit: int | None) -> View:
        """The published view of a venue, or of all venues added up by price."""
        venues = self._of(instrument, publisher)
        times = [self.levels.touched(p, instrument) for p in venues]
        ts_event, ts_recv = max((t[0] for t in times), default=0), max((t[1] for t in times), default=0)
        stale = self.is_stale(instrument)
        if len(venues) == 1:
            p = venues[0]
            bids, asks = (
                self._side(p, instrument, SIDE_BID, limit),
                self._side(p, instrument, SIDE_ASK, limit),
            )
            overlay = self.overlays.get((p, instrument))
            pair = (overlay.price, overlay.size) if overlay else None
            crossed = bool(bids and asks and bids[0][0] > asks[0][0])
            return View(bids, asks, ts_event, ts_recv, crossed, stale, pair, [])
        bids, asks = (
            consolidated(
                [[Level(*level) for level in self._side(p, instrument, side, limit)] for p in venues], side
            )[:limit]
            for side in (SIDE_BID, SIDE_ASK)
        )
        crossed = bool(bids and asks and bids[0][0] > asks[0][0])
        return View(
            bids, asks, ts_event, ts_recv, crossed, stale, None, [self.venue(p, instrument) for p in venues]
        )

    def best(self, instrument: int, publisher: int | None) -> BestRow | None:
        """The state as a `bbo` row; None for no book yet."""
        if not self._of(instrument, publisher):
            return None
        view = self.view(instrument, publisher, 1)
        bid, ask = _first(view.bids), _first(view.asks)
        return (self.ordinal, view.ts_event, view.ts_recv, bid, ask, view.crossed, view.stale)

    def status(self, instrument: int) -> dict[str, Any]:
        """Members of the `status` event: stale and gap first, then the venue's word, then what the book shows."""
        overlays = [self.overlays.get((p, instrument)) for p in self.publishers.get(instrument, ())]
        pair = next(((o.price, o.size) for o in overlays if o), None)
        stale = self.is_stale(instrument)
        said = self.halts.get(
            instrument, {"state": "auction" if pair else "open", "reason": None, "ts": None}
        )
        if self.gap:
            said = {**said, "state": "gap", "reason": "this gateway lost its place and could not reload"}
        elif stale:
            said = {**said, "state": "stale", "reason": "a gap lies before this state"}
        elif self.ended:
            said = {**said, "state": "ended", "reason": None}
        return {**said, "stale": stale, "auction": pair}

    @property
    def orders_ready(self) -> bool:
        """The L3 engine stands exactly where the levels do."""
        return self.orders is not None and (self.orders.session, self.orders.ordinal) == (
            self.session,
            self.ordinal,
        )

    def orders_body(self, instrument: int, publisher: int | None) -> dict[str, Any]:
        """Members of an `mbo` snapshot; `orders_ready` must hold."""
        from services.gateway.orders import orders_body

        assert self.orders is not None
        times = [self.levels.touched(p, instrument) for p in self._of(instrument, publisher)]
        crossed = bool(self._flags(instrument, publisher) & BOOK_CROSSED)
        return {
            "session": self.session, "q": self.ordinal, "ts_event": str(max((t[0] for t in times), default=0)),
            "ts_recv": str(max((t[1] for t in times), default=0)),
            **orders_body(self.orders.engine, self._of(instrument, publisher), instrument),
            "crossed": crossed, "stale": self.is_stale(instrument),
        }  # fmt: skip


def _first(levels: Sequence[Side]) -> Side:
    px, size, count = levels[0] if levels else EMPTY_SIDE
    return px, size, count
