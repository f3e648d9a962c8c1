"""What every order-book engine offers: the interface of the numba kernel and of the plain reference.

An engine holds the books of one shard. Book key: (publisher_id, instrument_id). Event: the records of one book up to
F_LAST. Nothing inside an event leaves the engine: records of an event still open at the end of a batch are held back
(the carry) and applied when it ends. So outputs do not depend on how the input was cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from shared.records import AUCTION, BBO, LEVEL, TOUCHED, TRADE, Rows, empty

if TYPE_CHECKING:
    from shared.orderbook.image import Frozen

Policy = Literal["uncross", "execute", "raw"]
POLICIES: tuple[Policy, ...] = ("uncross", "execute", "raw")
Outputs = Literal["all", "bbo"]  # "bbo": BBO, touched and auction rows only; trades and levels stay empty

# Records held back for their F_LAST, of one book and of all books of a shard: the one that makes so many ends its
# event. In order there are a few a book. Each takes 64 bytes in an image, 360 in memory with the room for its rows, and
# time in every batch in which one of these events ends: 17 MB, 95 MB and a few ms for all of a shard.
EVENT_RECORDS_MAX = 65_536
CARRY_RECORDS_MAX = 4 * EVENT_RECORDS_MAX

# Anomalies: code (in EFFECT.why) = index. None is fatal; README.md says what each does. Codes never change meaning:
# they are in stored images.
ANOMALIES = (
    "",
    "bad_action",  # not one of A C M R T F N: ignored
    "bad_side",  # an A or M whose side is not B or A: ignored
    "undefined_price",  # an A, M or T without a price: ignored
    "zero_size",  # A, C or T of size 0: ignored; M to size 0: the order is removed
    "duplicate_add",  # A of a live order id: replaces the order
    "unknown_cancel",  # C of an order that is not there: ignored
    "oversize_cancel",  # C of more than there is: the order is removed
    "unknown_modify",  # M of an order that is not there: added
    "unknown_fill",  # F of an order that is not there
    "side_mismatch",  # C or M on the other side than the order: applied to the order
    "price_mismatch",  # C at another price than the order's: applied to the order
    "executed_order",  # policy `execute`: C, M or F of an order that the uncrossing has executed
    "refill",  # M that changes nothing after an F of the order in the same event: an iceberg's refill; keeps its place
    "event_too_long",  # the last record there was room for, of an event without F_LAST or of all of a shard, ended it
    "event_unfinished",  # the session ended inside the event
    "event_interrupted",  # a snapshot began inside the event: what was held is part of the snapshot
    "maybe_bad_book",  # records that carry F_MAYBE_BAD_BOOK
    "snapshot_trade",  # a T inside a snapshot: not published
)
(
    BAD_ACTION, BAD_SIDE, UNDEFINED_PRICE, ZERO_SIZE, DUPLICATE_ADD, UNKNOWN_CANCEL, OVERSIZE_CANCEL, UNKNOWN_MODIFY,
    UNKNOWN_FILL, SIDE_MISMATCH, PRICE_MISMATCH, EXECUTED_ORDER, REFILL, EVENT_TOO_LONG, EVENT_UNFINISHED,
    EVENT_INTERRUPTED, MAYBE_BAD_BOOK, SNAPSHOT_TRADE,
) = range(1, len(ANOMALIES))  # fmt: skip


class Batch(NamedTuple):
    """Outputs of one `apply`: row arrays as in shared.records, empty where nothing happened."""

    bbo: Rows  # raw best bid and offer, at every event end where it changed, by ordinal
    trades: Rows  # by (end, ordinal)
    levels: Rows  # touched levels, absolute, at the last event end in this batch
    auctions: Rows  # overlay rows of policy `uncross`, by ordinal
    touched: Rows  # one row a book that had an event end in this batch
    effects: Rows | None = None  # with effects=True: one row a record applied, in order of application
    effect_records: Rows | None = None  # the MBO records the effects speak of (carried ones included)


NOTHING = Batch(empty(BBO), empty(TRADE), empty(LEVEL), empty(AUCTION), empty(TOUCHED))


class Level(NamedTuple):
    price: int  # 1e-9
    size: int
    count: int  # type: ignore[assignment]  # of orders; hides tuple.count


class Order(NamedTuple):
    order_id: int
    price: int  # 1e-9
    size: int
    ts_event: int  # ns, of the record that gave it its place in the queue


class Place(NamedTuple):
    """One order and its place in the queue of its level."""

    order: Order
    side: int  # units.SIDE_*
    index: int  # type: ignore[assignment]  # orders ahead of it
    ahead: int  # size ahead of it


class Engine(Protocol):
    policy: Policy

    def apply(self, records: Rows, first: int, *, effects: bool = False) -> Batch:
        """Apply contiguous records (layout MBO) with ordinals first, first+1, …; never raises on any content."""

    def end(self, ordinal: int | None = None) -> Batch:
        """The session ends: apply and count what is still carried, publish what is inside a snapshot.

        Rows carry `ordinal` (of the control entry that says so; default: one past the last seen) as ordinal and end.
        """

    def clear(self, instrument_id: int | None = None, ordinal: int | None = None) -> Batch:
        """Forget all books, or those of one instrument (every publisher), with their counters.

        The rows say that their levels are gone, under `ordinal` as in `end`. What is carried of the instrument is
        applied first, for its trades; of all books it is dropped: a session begins that knows no ordinal of theirs.
        """

    def books(self) -> list[tuple[int, int]]:
        """Keys (publisher_id, instrument_id) of every book seen since the last clear, sorted."""

    def records(self, publisher_id: int, instrument_id: int) -> int:
        """Records applied to a book; 0 for an unknown one."""

    def levels(
        self, publisher_id: int, instrument_id: int, side: int, limit: int | None = None
    ) -> list[Level]:
        """At most `limit` raw levels of a side, best first; [] for an unknown book."""

    def view(
        self, publisher_id: int, instrument_id: int, limit: int | None = None
    ) -> tuple[list[Level], list[Level]]:
        """Published (bids, asks): the overlay applied under `uncross`, else raw."""

    def orders(
        self, publisher_id: int, instrument_id: int, side: int, price: int | None = None
    ) -> Iterator[Order]:
        """Orders of a side (of one level if `price`), levels best first, each level in queue order."""

    def place(self, publisher_id: int, instrument_id: int, order_id: int) -> Place | None:
        """Where an order stands, or None."""

    def anomalies(self, publisher_id: int | None = None, instrument_id: int | None = None) -> dict[str, int]:
        """Counts by kind, of one book or of all; only kinds that occurred."""

    def image(self) -> bytes:
        """The canonical image: equal states give equal bytes, whatever the engine and its history."""

    def freeze(self) -> Callable[[], bytes]:
        """A quick copy of the state; the returned function makes its image and may run in another thread."""

    def state(self) -> Frozen:
        """The canonical state as columns."""

    def state_hash(self) -> str:
        """Hex hash of the canonical state: THE equality of every test."""

    def level_rows(self) -> Rows:
        """LEVEL rows of all raw levels of all books: by book, bids then asks, each best first."""

    def bbo_rows(self) -> Rows:
        """One BBO row a book as last published, by book; ordinal and times of the last record applied to it."""

    def touched_rows(self) -> Rows:
        """One TOUCHED row a book as it is now, by book."""

    def auction_rows(self) -> Rows:
        """One AUCTION row for each book that has an overlay now, by book."""

    def order_rows(self, publisher_id: int, instrument_id: int) -> Rows:
        """ORDER rows of one book: bids then asks, levels best first, each in queue order."""
