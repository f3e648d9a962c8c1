"""The plain order-book engine: the oracle of the kernel's tests, and its fallback (MBO_ENGINE=reference).

Read in this order: `_receive` (what is held back and when an event ends), `_apply` and the actions under it (what
one record does), `_end_event` (what is published). The rules are in README.md; what there is to change is in
reference_book.py, what can be asked in reference_views.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shared import records as layout
from shared import units
from shared.orderbook import engine as kinds
from shared.orderbook.engine import Batch, Outputs, Policy
from shared.orderbook.reference_book import (
    EMPTY_SIDE,
    NO_AUCTION,
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
from shared.orderbook.reference_views import ReferenceViews
from shared.orderbook.uncross import match
from shared.records import Rows
from shared.units import SIDE_ASK, SIDE_BID, UNDEF_PX

_PLACING = (units.ACTION_ADD, units.ACTION_MODIFY, units.ACTION_CANCEL)


class Effect(NamedTuple):
    effect: int
    before: int = 0
    after: int = 0
    why: int = 0


class ReferenceBooks(ReferenceViews):
    """See shared.orderbook.engine.Engine."""

    def __init__(self, policy: Policy = "uncross", *, outputs: Outputs = "all") -> None:
        super().__init__(policy, outputs=outputs)
        self._reset()

    def _reset(self) -> None:
        self._bbo: list[tuple[int, ...]] = []
        self._trades: list[tuple[int, ...]] = []
        self._auctions: list[tuple[int, ...]] = []
        self._touched: dict[Book, None] = {}
        self._early: list[
            tuple[int, tuple[int, ...]]
        ] = []  # level rows of books that have entered a snapshot
        self._effects: list[tuple[Record, int, Effect]] = []

    # --- input ---------------------------------------------------------------------------------------------------

    def apply(self, records: Rows, first: int, *, effects: bool = False) -> Batch:
        for index, fields in enumerate(records.tolist()):
            self._receive(Record._make((*fields, first + index)))
        if len(records):
            self._ordinal = first + len(records) - 1
        return self._flush(effects)

    def end(self, ordinal: int | None = None) -> Batch:
        ordinal = self._ordinal + 1 if ordinal is None else ordinal
        for _, book in sorted(self._books.items()):
            if book.held or book.in_snapshot:
                book.counts[kinds.EVENT_UNFINISHED] += 1
                self._apply_held(book, ordinal)
                self._end_event(book, ordinal)
        self._ordinal = ordinal
        return self._flush(False)

    def clear(self, instrument_id: int | None = None, ordinal: int | None = None) -> Batch:
        ordinal = self._ordinal + 1 if ordinal is None else ordinal
        gone = [book for key, book in sorted(self._books.items()) if instrument_id in (None, key[1])]
        for book in gone:
            if instrument_id is None:
                self._held -= len(book.held)
                book.held = []
            self._apply_held(book, ordinal)
            book.ordinal, book.maybe_bad = ordinal, False
            self._empty(book)
            self._end_event(book, ordinal)
        batch = self._flush(False)
        for book in gone:
            del self._books[book.key]
        self._ordinal = 0 if instrument_id is None else ordinal
        return batch

    def _receive(self, record: Record) -> None:
        key = (record.publisher_id, record.instrument_id)
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = Book(*key)
        if record.flags & units.F_SNAPSHOT:
            if not book.in_snapshot:
                self._enter_snapshot(book)
            if book.held:
                book.counts[kinds.EVENT_INTERRUPTED] += 1
                self._apply_held(book, record.ordinal)
            if book.flags & layout.BOOK_OPEN:
                book.flags &= ~layout.BOOK_OPEN
                self._touched[book] = None
            self._apply(book, record, record.ordinal)
            if record.flags & units.F_LAST:
                self._end_event(book, record.ordinal)
            else:
                self._flag(book, layout.BOOK_SNAPSHOT)
            return
        book.held.append(record)
        self._held += 1
        is_full = len(book.held) == kinds.EVENT_RECORDS_MAX or self._held == kinds.CARRY_RECORDS_MAX
        if record.flags & units.F_LAST or is_full:
            if not record.flags & units.F_LAST:
                book.counts[kinds.EVENT_TOO_LONG] += 1
            self._apply_held(book, record.ordinal)
            self._end_event(book, record.ordinal)

    def _enter_snapshot(self, book: Book) -> None:
        """From here on nothing of the book is published; what was touched before it is, as it stands now."""
        book.in_snapshot, book.maybe_bad = True, False
        book.filled.clear()
        for touch in [touch for touch in self._dirty if touch[0] is book]:
            self._early.append((self._dirty.pop(touch), level_row(*touch)))

    def _apply_held(self, book: Book, end: int) -> None:
        held, book.held = book.held, []
        self._held -= len(held)
        for record in held:
            self._apply(book, record, end)

    def _flag(self, book: Book, bit: int) -> None:
        if not book.flags & bit:
            book.flags |= bit
            self._touched[book] = None

    # --- one record ----------------------------------------------------------------------------------------------

    def _apply(self, book: Book, record: Record, end: int) -> None:
        book.records += 1
        book.ordinal, book.ts_event, book.ts_recv = record.ordinal, record.ts_event, record.ts_recv
        act = self._ACTIONS.get(record.action)
        if act is None:
            effect = self._ignore(book, kinds.BAD_ACTION)
        elif record.action in _PLACING and record.flags & (units.F_TOB | units.F_MBP):
            effect = self._aggregate(book, record)
        else:
            effect = act(self, book, record, end)
        if record.flags & units.F_MAYBE_BAD_BOOK:
            book.maybe_bad = True
            book.counts[kinds.MAYBE_BAD_BOOK] += 1
        self._effects.append((record, end, effect))

    def _ignore(self, book: Book, why: int, size: int = 0) -> Effect:
        book.counts[why] += 1
        return Effect(layout.EFFECT_NONE, size, size, why)

    def _add(self, book: Book, record: Record, end: int) -> Effect:
        wrong = self._unplaceable(record)
        if wrong or record.size == 0:
            return self._ignore(book, wrong or kinds.ZERO_SIZE)
        book.executed.discard(record.order_id)
        old = book.orders.get(record.order_id)
        if old is None:
            self._rest(book, record)
            return Effect(layout.EFFECT_ADDED, 0, record.size)
        book.counts[kinds.DUPLICATE_ADD] += 1
        before = old.size
        self._remove(book, old)
        self._rest(book, record)
        return Effect(layout.EFFECT_REPLACED, before, record.size, kinds.DUPLICATE_ADD)

    def _cancel(self, book: Book, record: Record, end: int) -> Effect:
        order = book.orders.get(record.order_id)
        if order is None:
            return self._missing(book, record, kinds.UNKNOWN_CANCEL)
        if record.size == 0:
            return self._ignore(book, kinds.ZERO_SIZE, order.size)
        whys = []
        if record.side != order.side:
            whys.append(kinds.SIDE_MISMATCH)
        if record.price != order.price:
            whys.append(kinds.PRICE_MISMATCH)
        return self._reduce(book, order, record.size, whys)

    def _reduce(self, book: Book, order: Resting, size: int, whys: list[int]) -> Effect:
        before = order.size
        if size > before:
            whys.append(kinds.OVERSIZE_CANCEL)
        book.counts.update(whys)
        why = whys[0] if whys else 0
        if size >= before:
            self._remove(book, order)
            return Effect(layout.EFFECT_REMOVED, before, 0, why)
        self._resize(book, order, before - size)
        return Effect(layout.EFFECT_REDUCED, before, before - size, why)

    def _modify(self, book: Book, record: Record, end: int) -> Effect:
        wrong = self._unplaceable(record)
        if wrong:
            return self._ignore(book, wrong)
        order = book.orders.get(record.order_id)
        if order is None:
            missing = self._missing(book, record, kinds.UNKNOWN_MODIFY)
            if record.size == 0:
                book.counts[kinds.ZERO_SIZE] += 1
                return missing
            self._rest(book, record)
            return Effect(layout.EFFECT_ADDED, 0, record.size, missing.why)
        before, why = order.size, 0
        if record.side != order.side:
            why = kinds.SIDE_MISMATCH
            book.counts[why] += 1
        if record.size == 0:
            book.counts[kinds.ZERO_SIZE] += 1
            self._remove(book, order)
            return Effect(layout.EFFECT_REMOVED, before, 0, why or kinds.ZERO_SIZE)
        if record.side != order.side or record.price != order.price or record.size > before:
            self._remove(book, order)
            self._rest(book, record)
            return Effect(layout.EFFECT_MOVED, before, record.size, why)
        if record.size < before:
            self._resize(book, order, record.size)
            return Effect(layout.EFFECT_REDUCED, before, record.size)
        if record.order_id in book.filled:
            return self._ignore(book, kinds.REFILL, before)
        return Effect(layout.EFFECT_NONE, before, before)

    def _clear(self, book: Book, record: Record, end: int) -> Effect:
        book.maybe_bad = False
        self._empty(book)
        return Effect(layout.EFFECT_CLEARED)

    def _trade(self, book: Book, record: Record, end: int) -> Effect:
        if record.price == UNDEF_PX:
            return self._ignore(book, kinds.UNDEFINED_PRICE)
        if record.size == 0:
            return self._ignore(book, kinds.ZERO_SIZE)
        if record.flags & units.F_SNAPSHOT:
            return self._ignore(book, kinds.SNAPSHOT_TRADE)
        book.last_px = record.price
        self._trades.append(
            (record.ordinal, end, record.ts_event, record.ts_recv, record.price, record.size,
             record.instrument_id, record.sequence, record.publisher_id, record.side, record.flags)
        )  # fmt: skip
        return Effect(layout.EFFECT_NONE)

    def _fill(self, book: Book, record: Record, end: int) -> Effect:
        order = book.orders.get(record.order_id)
        if order is None:
            return self._missing(book, record, kinds.UNKNOWN_FILL)
        if not book.in_snapshot:
            book.filled.add(record.order_id)
        return Effect(layout.EFFECT_NONE, order.size, order.size)

    def _none(self, book: Book, record: Record, end: int) -> Effect:
        return Effect(layout.EFFECT_NONE)

    def _aggregate(self, book: Book, record: Record) -> Effect:
        """A, M or C flagged units.F_TOB or units.F_MBP: it speaks of a level, not of an order."""
        if record.side not in SIDES:
            return self._ignore(book, kinds.BAD_SIDE)
        levels = book.sides[record.side]
        if record.action == units.ACTION_CANCEL:
            queue = levels.get(record.price)
            order = next(iter(queue.orders)) if queue else None
            if order is None or not order.aggregate:
                return self._ignore(book, kinds.UNKNOWN_CANCEL)
            if record.size == 0:
                return self._ignore(book, kinds.ZERO_SIZE, order.size)
            return self._reduce(book, order, record.size, [])
        if record.flags & units.F_TOB:
            self._empty(book, record.side)
        elif record.price == UNDEF_PX:
            return self._ignore(book, kinds.UNDEFINED_PRICE)
        elif record.price in levels:
            self._empty_level(book, record.side, record.price)
        size = 0 if record.price == UNDEF_PX else record.size
        if size:
            self._rest(book, record, aggregate=True)
        return Effect(layout.EFFECT_REPLACED, 0, size)

    _ACTIONS: dict[int, Callable[[Any, Book, Record, int], Effect]] = {  # noqa: RUF012  # never changed
        units.ACTION_ADD: _add, units.ACTION_CANCEL: _cancel, units.ACTION_MODIFY: _modify, units.ACTION_CLEAR: _clear,
        units.ACTION_TRADE: _trade, units.ACTION_FILL: _fill, units.ACTION_NONE: _none,
    }  # fmt: skip

    @staticmethod
    def _unplaceable(record: Record) -> int:
        if record.side not in SIDES:
            return kinds.BAD_SIDE
        return kinds.UNDEFINED_PRICE if record.price == UNDEF_PX else 0

    def _missing(self, book: Book, record: Record, kind: int) -> Effect:
        """The order is not there: taken out by the uncrossing (then this is the last we say of it), or unknown."""
        if record.order_id in book.executed:
            kind = kinds.EXECUTED_ORDER
            if record.action != units.ACTION_FILL:
                book.executed.discard(record.order_id)
        return self._ignore(book, kind)

    # --- the order state -----------------------------------------------------------------------------------------

    def _rest(self, book: Book, record: Record, aggregate: bool = False) -> None:
        """A new order at the back of its level's queue."""
        order = Resting(record.order_id, record.side, record.price, record.size, record.ts_event, aggregate)
        if not aggregate:
            book.orders[order.order_id] = order
        queue = book.sides[order.side].setdefault(order.price, Queue())
        queue.orders[order] = None
        queue.size += order.size
        self._touch(book, order.side, order.price)

    def _remove(self, book: Book, order: Resting) -> None:
        if not order.aggregate:
            del book.orders[order.order_id]
        levels = book.sides[order.side]
        queue = levels[order.price]
        del queue.orders[order]
        queue.size -= order.size
        if not queue.orders:
            del levels[order.price]
        self._touch(book, order.side, order.price)

    def _resize(self, book: Book, order: Resting, size: int) -> None:
        book.sides[order.side][order.price].size += size - order.size
        order.size = size
        self._touch(book, order.side, order.price)

    def _empty_level(self, book: Book, side: int, price: int) -> None:
        for order in list(book.sides[side][price].orders):
            self._remove(book, order)

    def _empty(self, book: Book, only: int | None = None) -> None:
        for side in SIDES if only is None else (only,):
            for price in [price for price, _ in book.queues(side)]:
                self._empty_level(book, side, price)
        if only is None:
            book.executed.clear()

    def _touch(self, book: Book, side: int, price: int) -> None:
        if self.outputs == "all":
            self._dirty.setdefault((book, side, price), book.ordinal)

    # --- event end -----------------------------------------------------------------------------------------------

    def _end_event(self, book: Book, ordinal: int) -> None:
        book.in_snapshot = False
        book.ordinal = ordinal
        book.filled.clear()
        auction: tuple[int, ...] = NO_AUCTION
        if self.policy != "raw" and self._meets(book):
            auction = self._uncross(book, execute=self.policy == "execute")
        bid, ask = book.best(SIDE_BID), book.best(SIDE_ASK)
        book.flags = layout.BOOK_MAYBE_BAD if book.maybe_bad else 0
        if bid[2] and ask[2] and bid[0] >= ask[0]:
            book.flags |= layout.BOOK_CROSSED if bid[0] > ask[0] else layout.BOOK_LOCKED
        if book.bbo != (*bid, *ask):
            book.bbo = (*bid, *ask)
            self._bbo.append(bbo_row(book))
        if book.auction != auction:
            book.auction = auction
            self._auctions.append(auction_row(book))
        self._touched[book] = None

    @staticmethod
    def _meets(book: Book) -> bool:
        bid, ask = book.best(SIDE_BID), book.best(SIDE_ASK)
        return bool(bid[2] and ask[2] and bid[0] >= ask[0])

    def _uncross(self, book: Book, execute: bool) -> tuple[int, ...]:
        """The overlay of a book whose sides meet; with `execute` the executions are applied to the state instead."""
        queues = {side: list(book.queues(side)) for side in SIDES}
        sized = {side: [(price, queue.size) for price, queue in queues[side]] for side in SIDES}
        last_px = None if book.last_px == UNDEF_PX else book.last_px
        found = match(sized[SIDE_BID], sized[SIDE_ASK], last_px)
        assert found is not None
        executed = {SIDE_BID: found.bids, SIDE_ASK: found.asks}
        if execute:
            for side in SIDES:
                self._execute(book, side, found.size)
            return NO_AUCTION
        first = [_first_remaining(queues[side], *executed[side]) for side in SIDES]
        return (1, found.price, found.size, *first[0], *first[1])

    def _execute(self, book: Book, side: int, size: int) -> None:
        """Take `size` out of a side in price-time priority."""
        while size:
            queue = next(queue for _, queue in book.queues(side))
            order = next(iter(queue.orders))
            step = min(size, order.size)
            size -= step
            if step < order.size:
                self._resize(book, order, order.size - step)
                continue
            self._remove(book, order)
            if not order.aggregate:
                book.executed.add(order.order_id)

    def _flush(self, effects: bool) -> Batch:
        for book in sorted(
            (book for book in self._books.values() if book.held), key=lambda b: b.held[0].ordinal
        ):
            self._flag(book, layout.BOOK_OPEN)
        rows = self._early + [
            (ordinal, level_row(*touch)) for touch, ordinal in self._dirty.items() if not touch[0].in_snapshot
        ]
        rows.sort(key=lambda row: row[0])
        newest = {row[:5]: i for i, (_, row) in enumerate(rows)}  # a snapshot may begin and end in one batch
        levels = [rows[i][1] for i in sorted(newest.values())]
        waiting = [touch for touch in self._dirty if touch[0].in_snapshot]
        waiting.sort(key=lambda touch: (touch[0].key, touch[1] == SIDE_ASK, touch[2]))
        self._dirty = {touch: i - len(waiting) for i, touch in enumerate(waiting)}  # before any ordinal
        self._effects.sort(key=lambda row: (row[1], row[0].ordinal))
        self._trades.sort(key=lambda row: (row[1], row[0]))
        everything = self.outputs == "all"
        batch = Batch(
            bbo=np.array(self._bbo, layout.BBO),
            trades=np.array(self._trades if everything else [], layout.TRADE),
            levels=np.array(levels, layout.LEVEL),
            auctions=np.array(self._auctions, layout.AUCTION),
            touched=np.array([touched_row(book) for book in self._touched], layout.TOUCHED),
        )
        if effects:
            batch = batch._replace(
                effects=np.array(
                    [_effect_row(i, *row) for i, row in enumerate(self._effects)], layout.EFFECT
                ),
                effect_records=np.array([tuple(row[0][:-1]) for row in self._effects], layout.MBO),
            )
        self._reset()
        return batch


def _first_remaining(queues: list[tuple[int, Queue]], whole: int, part: int) -> tuple[int, int, int]:
    """The best level after `whole` levels and `part` of the next one have been executed."""
    if whole == len(queues):
        return EMPTY_SIDE
    price, queue = queues[whole]
    count, left = len(queue.orders), part
    for order in queue.orders:
        if order.size > left:
            break
        left -= order.size
        count -= 1
    return price, queue.size - part, count


def _effect_row(index: int, record: Record, end: int, effect: Effect) -> tuple[int, ...]:
    return (record.ordinal, end, index, effect.before, effect.after, effect.effect, effect.why, 0)
