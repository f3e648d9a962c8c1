"""The plain engine's state, asked for: levels, orders, places, rows, images. reference.py changes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Self

import numpy as np

from shared import records as layout
from shared.orderbook import image as images
from shared.orderbook import views
from shared.orderbook.engine import ANOMALIES, Level, Order, Outputs, Place, Policy
from shared.orderbook.reference_book import (
    SIDES,
    Book,
    Queue,
    Record,
    Resting,
    auction_row,
    bbo_row,
    level_row,
    touched_row,
)
from shared.records import Rows
from shared.units import SIDE_ASK, SIDE_BID


class ReferenceViews:
    """The reading half of shared.orderbook.engine.Engine."""

    def __init__(self, policy: Policy = "uncross", *, outputs: Outputs = "all") -> None:
        self.policy = policy
        self.outputs = outputs
        self._books: dict[tuple[int, int], Book] = {}
        self._ordinal = 0
        self._held = 0  # records held back, of all books
        # Levels to publish, each with the ordinal of the record that touched it first: rows go in that order. Those of
        # books in a snapshot wait for its end.
        self._dirty: dict[tuple[Book, int, int], int] = {}

    def books(self) -> list[tuple[int, int]]:
        return sorted(self._books)

    def records(self, publisher_id: int, instrument_id: int) -> int:
        book = self._books.get((publisher_id, instrument_id))
        return book.records if book else 0

    def levels(
        self, publisher_id: int, instrument_id: int, side: int, limit: int | None = None
    ) -> list[Level]:
        book = self._books.get((publisher_id, instrument_id))
        if book is None or side not in SIDES:
            return []
        return [
            Level(price, queue.size, len(queue.orders)) for price, queue in islice(book.queues(side), limit)
        ]

    def view(
        self, publisher_id: int, instrument_id: int, limit: int | None = None
    ) -> tuple[list[Level], list[Level]]:
        book = self._books.get((publisher_id, instrument_id))
        sides = [self.levels(publisher_id, instrument_id, side) for side in SIDES]
        if book and book.auction[0]:
            sides[0] = views.overlaid(sides[0], Level(*book.auction[3:6]), SIDE_BID)
            sides[1] = views.overlaid(sides[1], Level(*book.auction[6:9]), SIDE_ASK)
        return sides[0][:limit], sides[1][:limit]

    def orders(
        self, publisher_id: int, instrument_id: int, side: int, price: int | None = None
    ) -> Iterator[Order]:
        book = self._books.get((publisher_id, instrument_id))
        if book is None or side not in SIDES:
            return
        for at, queue in book.queues(side):
            if price in (None, at):
                for order in queue.orders:
                    yield Order(order.order_id, order.price, order.size, order.ts_event)

    def place(self, publisher_id: int, instrument_id: int, order_id: int) -> Place | None:
        book = self._books.get((publisher_id, instrument_id))
        order = book.orders.get(order_id) if book else None
        if book is None or order is None:
            return None
        queue = list(book.sides[order.side][order.price].orders)
        index = queue.index(order)
        seen = Order(order.order_id, order.price, order.size, order.ts_event)
        return Place(seen, order.side, index, sum(other.size for other in queue[:index]))

    def anomalies(self, publisher_id: int | None = None, instrument_id: int | None = None) -> dict[str, int]:
        total: Counter[int] = Counter()
        for key, book in self._books.items():
            if publisher_id in (None, key[0]) and instrument_id in (None, key[1]):
                total += book.counts
        return {ANOMALIES[code]: total[code] for code in sorted(total)}

    def _sorted(self) -> list[Book]:
        return [book for _, book in sorted(self._books.items())]

    def level_rows(self) -> Rows:
        rows = [
            level_row(book, side, price)
            for book in self._sorted()
            for side in SIDES
            for price, _ in book.queues(side)
        ]
        return np.array(rows, layout.LEVEL)

    def bbo_rows(self) -> Rows:
        return np.array([bbo_row(book) for book in self._sorted()], layout.BBO)

    def touched_rows(self) -> Rows:
        return np.array([touched_row(book) for book in self._sorted()], layout.TOUCHED)

    def auction_rows(self) -> Rows:
        return np.array([auction_row(book) for book in self._sorted() if book.auction[0]], layout.AUCTION)

    def order_rows(self, publisher_id: int, instrument_id: int) -> Rows:
        book = self._books.get((publisher_id, instrument_id))
        rows = [
            (order.order_id, order.ts_event, order.price, order.size, order.side, order.aggregate, 0)
            for side in SIDES if book for _, queue in book.queues(side) for order in queue.orders
        ]  # fmt: skip
        return np.array(rows, layout.ORDER)

    # --- images --------------------------------------------------------------------------------------------------

    def image(self) -> bytes:
        return images.encode(self.state())

    def state_hash(self) -> str:
        return images.state_hash(self.image())

    def freeze(self) -> Callable[[], bytes]:
        return self.state()

    def state(self) -> images.Frozen:
        books = self._sorted()
        queues = [(price, queue) for book in books for side in SIDES for price, queue in book.queues(side)]
        held = sorted((record for book in books for record in book.held), key=lambda record: record.ordinal)
        pending = [touch for book in books for touch in self._dirty if touch[0] is book]
        return images.Frozen(
            policy=self.policy,
            ordinal=self._ordinal,
            books=np.array([self._book_state(book) for book in books], images.BOOK_STATE),
            levels=np.array([(price, len(queue.orders)) for price, queue in queues], images.LEVEL_STATE),
            orders=np.array(
                [(o.order_id, o.ts_event, o.size, o.aggregate) for _, queue in queues for o in queue.orders],
                images.ORDER_STATE,
            ),
            executed=np.array([order_id for book in books for order_id in sorted(book.executed)], images.U8),
            pending=np.array([(price, side) for _, side, price in pending], images.PENDING_STATE),
            carry=np.array([tuple(record[:-1]) for record in held], layout.MBO),
            carry_ordinals=np.array([record.ordinal for record in held], images.U8),
        )

    def _book_state(self, book: Book) -> tuple[Any, ...]:
        counts = tuple(book.counts[code] for code in range(images.ANOMALY_SLOTS))
        pending = sum(1 for touch in self._dirty if touch[0] is book)
        return (
            *book.key, book.flags, book.maybe_bad, book.auction[0], book.ordinal, book.ts_event, book.ts_recv,
            book.records, book.last_px, *book.bbo, *book.auction[1:], counts,
            len(book.sides[SIDE_BID]), len(book.sides[SIDE_ASK]), len(book.executed), pending,
        )  # fmt: skip

    @classmethod
    def restore(cls, body: bytes, *, outputs: Outputs = "all") -> Self:
        return cls.thaw(images.decode(body), outputs=outputs)

    @classmethod
    def thaw(cls, state: images.Frozen, *, outputs: Outputs = "all") -> Self:
        self = cls(state.policy, outputs=outputs)
        self._ordinal = state.ordinal
        levels, orders = iter(state.levels.tolist()), iter(state.orders.tolist())
        executed, pending = iter(state.executed.tolist()), iter(state.pending.tolist())
        for row in state.books:
            book = Book(int(row["publisher_id"]), int(row["instrument_id"]))
            self._books[book.key] = book
            _thaw_fields(book, row)
            for side, count in ((SIDE_BID, row["bids"]), (SIDE_ASK, row["asks"])):
                for price, size in islice(levels, int(count)):
                    queue = book.sides[side][price] = Queue()
                    for order_id, ts_event, order_size, aggregate in islice(orders, size):
                        order = Resting(order_id, side, price, order_size, ts_event, bool(aggregate))
                        queue.orders[order] = None
                        queue.size += order_size
                        if not aggregate:
                            book.orders[order_id] = order
            book.executed = set(islice(executed, int(row["executed"])))
            for price, side in islice(pending, int(row["pending"])):
                if outputs == "all":
                    self._dirty[book, side, price] = len(self._dirty) - len(state.pending)
        for fields, ordinal in zip(state.carry.tolist(), state.carry_ordinals.tolist(), strict=True):
            record = Record._make((*fields, ordinal))
            self._books[record.publisher_id, record.instrument_id].held.append(record)
        self._held = len(state.carry)
        return self


def _thaw_fields(book: Book, row: Any) -> None:
    book.flags, book.maybe_bad = int(row["flags"]), bool(row["maybe_bad"])
    book.in_snapshot = bool(book.flags & layout.BOOK_SNAPSHOT)
    book.ordinal, book.ts_event, book.ts_recv = int(row["ordinal"]), int(row["ts_event"]), int(row["ts_recv"])
    book.records, book.last_px = int(row["records"]), int(row["last_px"])
    both = [f"{side}_{what}" for side in ("bid", "ask") for what in ("px", "sz", "ct")]
    book.bbo = tuple(int(row[name]) for name in both)
    sums = (int(row["auction"]), int(row["auction_px"]), int(row["auction_sz"]))
    book.auction = (*sums, *(int(row[f"auction_{name}"]) for name in both))
    book.counts.update({code: int(count) for code, count in enumerate(row["anomalies"]) if count})
