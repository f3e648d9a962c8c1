"""What the plain engine keeps: orders in queues, queues in sides, sides in a book; and the rows that tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sortedcontainers import SortedDict

from shared.units import SIDE_ASK, SIDE_BID, UNDEF_PX

SIDES = (SIDE_BID, SIDE_ASK)
EMPTY_SIDE = (UNDEF_PX, 0, 0)
NO_AUCTION = (0, 0, 0, *EMPTY_SIDE, *EMPTY_SIDE)  # present, price, size, first remaining bid and ask level


class Record(NamedTuple):
    """The fields of layout layout.MBO, and the ordinal."""

    length: int
    rtype: int
    publisher_id: int
    instrument_id: int
    ts_event: int
    order_id: int
    price: int
    size: int
    flags: int
    channel_id: int
    action: int
    side: int
    ts_recv: int
    ts_in_delta: int
    sequence: int
    ordinal: int


@dataclass(slots=True, eq=False)
class Resting:
    order_id: int
    side: int
    price: int
    size: int
    ts_event: int
    aggregate: bool = False  # a level known only in sum: found by price, not by id


@dataclass(slots=True)
class Queue:
    """The orders of one level in their order, and the sum of their sizes."""

    orders: dict[Resting, None] = field(default_factory=dict)
    size: int = 0


class Book:
    def __init__(self, publisher_id: int, instrument_id: int) -> None:
        self.key = (publisher_id, instrument_id)
        self.sides: dict[int, SortedDict] = {side: SortedDict() for side in SIDES}  # price -> Queue
        self.orders: dict[int, Resting] = {}
        self.executed: set[int] = set()  # policy `execute`: ids the uncrossing has taken out
        self.filled: set[int] = set()  # ids that had an F in this event
        self.held: list[Record] = []
        self.counts: Counter[int] = Counter()
        self.in_snapshot = self.maybe_bad = False
        self.flags = self.records = self.ordinal = self.ts_event = self.ts_recv = 0
        self.last_px = UNDEF_PX
        self.bbo: tuple[int, ...] = (*EMPTY_SIDE, *EMPTY_SIDE)  # as last published
        self.auction: tuple[int, ...] = NO_AUCTION

    def queues(self, side: int) -> Iterator[tuple[int, Queue]]:
        """(price, queue), best first."""
        levels = self.sides[side]
        for price in reversed(levels) if side == SIDE_BID else iter(levels):
            yield price, levels[price]

    def best(self, side: int) -> tuple[int, int, int]:
        for price, queue in self.queues(side):
            return price, queue.size, len(queue.orders)
        return EMPTY_SIDE


def bbo_row(book: Book) -> tuple[int, ...]:
    bid_px, bid_sz, bid_ct, ask_px, ask_sz, ask_ct = book.bbo
    return (*_stamp(book), book.flags, 0, bid_px, ask_px, bid_sz, ask_sz, bid_ct, ask_ct)


def auction_row(book: Book) -> tuple[int, ...]:
    present, price, size, bid_px, bid_sz, bid_ct, ask_px, ask_sz, ask_ct = book.auction
    return (*_stamp(book), present, 0, price, size, bid_px, ask_px, bid_sz, ask_sz, bid_ct, ask_ct)


def touched_row(book: Book) -> tuple[int, ...]:
    return (*_stamp(book), book.flags, 0)


def _stamp(book: Book) -> tuple[int, ...]:
    publisher_id, instrument_id = book.key
    return book.ordinal, book.ts_event, book.ts_recv, instrument_id, publisher_id


def level_row(book: Book, side: int, price: int) -> tuple[int, ...]:
    queue = book.sides[side].get(price) or Queue()
    return (book.key[1], book.key[0], side, 0, price, queue.size, len(queue.orders), 0)
