"""What every order-book engine offers: the interface of the numba kernel and of the plain reference.

An engine holds the books of one shard. Book key: (publisher_id, instrument_id). Event: the records of one book up to
F_LAST. Nothing inside an event leaves the engine: records of an event still open at the end of a batch are held back
(the carry) and applied when it ends. So outputs do not depend on how the input was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from shared.records import Rows

Policy = Literal["uncross", "execute", "raw"]
POLICIES: tuple[Policy, ...] = ("uncross", "execute", "raw")


class Batch(NamedTuple):
    """Outputs of one `apply`: row arrays as in shared.records, empty where nothing happened."""

    bbo: Rows  # raw best bid and offer, at every event end where it changed, by ordinal
    trades: Rows  # by (end, ordinal)
    levels: Rows  # touched levels, absolute, at the last event end in this batch
    auctions: Rows  # overlay rows of policy `uncross`, by ordinal
    touched: Rows  # one row a book that had an event end in this batch
    effects: Rows | None = None  # with effects=True: one row a record applied, in order of application
    effect_records: Rows | None = None  # the MBO records the effects speak of (carried ones included)


class Level(NamedTuple):
    price: int  # 1e-9
    size: int
    count: int


class Order(NamedTuple):
    order_id: int
    price: int  # 1e-9
    size: int
    ts_event: int  # ns, of the record that gave it its place in the queue


class Place(NamedTuple):
    """One order and its place in the queue of its level."""

    order: Order
    side: int  # units.SIDE_*
    index: int  # orders ahead of it
    ahead: int  # size ahead of it


class Engine(Protocol):
    policy: Policy

    def apply(self, records: Rows, first: int, *, effects: bool = False) -> Batch:
        """Apply contiguous records (layout MBO) with ordinals first, first+1, …; never raises on any content."""

    def end(self) -> Batch:
        """The session ends: apply and count what is still carried."""

    def clear(self, instrument_id: int | None = None) -> Batch:
        """Empty all books, or those of one instrument (every publisher), and drop their carry."""

    def books(self) -> list[tuple[int, int]]:
        """Keys (publisher_id, instrument_id) of every book ever seen, sorted."""

    def levels(self, publisher_id: int, instrument_id: int, side: int, limit: int | None = None) -> list[Level]:
        """At most `limit` raw levels of a side, best first; [] for an unknown book."""

    def view(self, publisher_id: int, instrument_id: int, limit: int | None = None) -> tuple[list[Level], list[Level]]:
        """Published (bids, asks): the overlay applied under `uncross`, else raw."""

    def orders(self, publisher_id: int, instrument_id: int, side: int, price: int | None = None) -> Iterator[Order]:
        """Orders of a side (of one level if `price`), levels best first, each level in queue order."""

    def place(self, publisher_id: int, instrument_id: int, order_id: int) -> Place | None:
        """Where an order stands, or None."""

    def anomalies(self, publisher_id: int | None = None, instrument_id: int | None = None) -> dict[str, int]:
        """Counts by kind, of one book or of all; only kinds that occurred."""

    def image(self) -> bytes:
        """The canonical image: equal states give equal bytes, whatever the engine and its history."""

    def state_hash(self) -> str:
        """Hex hash of the canonical state: THE equality of every test."""
