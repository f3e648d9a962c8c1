"""MBP rows (market by price, the best levels) derived from MBO records, as Databento's mbp-1 and mbp-10 have them.

A row for every record that changes one of the best levels, with the book right after that record, and for every trade;
a trade whose fills are booked right behind it is shown with the book after the first of them (the truth rows of the arl
file). Records inside a snapshot make no rows but its last. What a record does is decided by the engine (policy raw), on
records of which each ends its event, because MBP rows show the states inside an event too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.export import layouts, mbp_kernel
from shared.orderbook.engine import Engine, Level, make_engine
from shared.records import MBO_SIGNED, Rows
from shared.units import (
    ACTION_CLEAR,
    ACTION_FILL,
    ACTION_TRADE,
    F_LAST,
    F_MBP,
    F_SNAPSHOT,
    F_TOB,
    SIDE_ASK,
    SIDE_BID,
    UNDEF_PX,
)

_LAYOUTS = {1: (layouts.MBP1, layouts.RTYPE_MBP1), 10: (layouts.MBP10, layouts.RTYPE_MBP10)}
_COPIED = (
    "publisher_id", "instrument_id", "ts_event", "price", "size", "action", "side", "flags", "ts_recv", "ts_in_delta",
    "sequence",
)  # fmt: skip
_BOOK = np.dtype(
    [
        ("bid_px", "<i8"),
        ("ask_px", "<i8"),
        ("bid_sz", "<u4"),
        ("ask_sz", "<u4"),
        ("bid_ct", "<u4"),
        ("ask_ct", "<u4"),
    ]
)
_FIRST_LEVELS, _FIRST_ORDERS = 256, 4096
_ROWS = 16_384  # rows made in one run of the kernel


class Mbp:
    """Follows one book (one publisher, one instrument); `depth` is 1 or 10."""

    def __init__(self, depth: int, engine: Engine | None = None, book: tuple[int, int] | None = None) -> None:
        """From an empty book, or from `book` (publisher_id, instrument_id) in an engine that it then owns."""
        self._layout, self._rtype = _LAYOUTS[depth]
        self._depth = depth
        self._engine = make_engine("raw", outputs="bbo") if engine is None else engine
        self._levels: NDArray[np.int64] = np.zeros((2, _FIRST_LEVELS, 3), np.int64)
        self._used = np.zeros(3, np.int64)  # bids, asks, orders
        self._table = _table(_FIRST_ORDERS)
        self._held = np.array([-1, 0], np.int64)
        self._which, self._touched = np.empty((2, _ROWS), np.int64)
        self._book = np.empty((_ROWS, depth, 6), np.int64)
        self._waiting: list[Rows] = []  # trades and fills at the end of what came: their bookings may follow
        self._by_levels = False  # TOB and MBP records: sums without orders, so the engine is asked after each
        self._last: tuple[list[Level], list[Level]] = ([], [])
        self._ordinal = 1
        if engine is not None and book is not None:
            engine.end()  # a held-back event is applied: rows show the states inside events
            self._seed(engine.order_rows(*book))
            self._ask(book)

    def _seed(self, orders: Rows) -> None:
        self._by_levels = bool(orders["aggregate"].any())
        while len(orders) * 2 + 16 > len(self._table):
            self._table = _table(2 * len(self._table))
        for order, price, size, side in zip(
            orders["order_id"].view("<i8").tolist(), orders["price"].tolist(), orders["size"].tolist(),
            orders["side"].tolist(), strict=True,
        ):  # fmt: skip
            self._room()
            which = 0 if side == SIDE_BID else 1
            mbp_kernel.change(self._levels, self._used, which, price, size, 1)
            self._table[mbp_kernel.find(self._table, order)] = (order, price, which)
        self._used[2] = len(orders)

    def _ask(self, book: tuple[int, int]) -> bool:
        """The best levels as the engine has them; whether they differ from the last time."""
        top = (
            self._engine.levels(*book, SIDE_BID, self._depth),
            self._engine.levels(*book, SIDE_ASK, self._depth),
        )
        changed, self._last = top != self._last, top
        return changed

    def _room(self) -> None:
        """Grow what is full."""
        if max(self._used[0], self._used[1]) + mbp_kernel.ROOM > self._levels.shape[1]:
            self._levels = np.concatenate((self._levels, np.zeros_like(self._levels)), axis=1)
        if (self._used[2] + mbp_kernel.ROOM) * 2 > len(self._table):
            old = self._table[self._table[:, 1] != mbp_kernel.FREE]
            self._table = _table(2 * len(self._table))
            for row in old:
                self._table[mbp_kernel.find(self._table, row[0])] = row

    def rows(self, records: Rows) -> Iterator[Rows]:
        """MBP rows of further records of this book, in order."""
        records = np.concatenate([*self._waiting, records]) if self._waiting else records
        keep = len(records)
        while keep and records["action"][keep - 1] in (ACTION_TRADE, ACTION_FILL):
            keep -= 1
        self._waiting = [records[keep:]] if keep < len(records) else []
        yield from self._apply(records[:keep], final=False)

    def end(self) -> Iterator[Rows]:
        """Rows of what still waited: nothing follows."""
        waiting, self._waiting = self._waiting, []
        for records in waiting:
            yield from self._apply(records, final=True)

    def _apply(self, records: Rows, *, final: bool) -> Iterator[Rows]:
        if not len(records):
            return
        if not self._by_levels and (records["flags"] & (F_TOB | F_MBP)).any():
            self._by_levels = True
            self._ask((int(records["publisher_id"][0]), int(records["instrument_id"][0])))
        single = records.copy()
        single["flags"] |= F_LAST
        if self._by_levels:
            yield from self._one_by_one(records, single)
            return
        batch = self._engine.apply(single, self._ordinal, effects=True)
        self._ordinal += len(single)
        assert batch.effects is not None
        assert len(batch.effects) == len(records)
        which, touched, book = self._which, self._touched, self._book
        done = 0
        while True:
            self._room()
            done, made = mbp_kernel.follow(
                records.view(MBO_SIGNED), batch.effects, done, self._depth, self._levels, self._used, self._table,
                self._held, which, touched, book, 10 if self._depth == 10 else 0, final,
            )  # fmt: skip
            if made:
                yield self._made(records[which[:made]], touched[:made], book[:made])
            if done == len(records):
                return

    def _made(self, records: Rows, touched: NDArray[Any], book: NDArray[np.int64]) -> Rows:
        out = np.zeros(len(records), self._layout)
        for name in _COPIED:
            out[name] = records[name]
        out["length"], out["rtype"], out["depth"] = self._layout.itemsize // 4, self._rtype, touched
        levels = np.empty((len(records), self._depth), _BOOK)
        for index, name in enumerate(_BOOK.names or ()):
            levels[name] = book[:, :, index]
        out.view(np.uint8).reshape(len(out), -1)[:, 48:] = levels.view(np.uint8).reshape(len(out), -1)
        return out

    def _one_by_one(self, records: Rows, single: Rows) -> Iterator[Rows]:
        """The same by asking the engine after each record: for books known only in sums."""
        key = (int(records["publisher_id"][0]), int(records["instrument_id"][0]))
        chosen: list[int] = []
        books: list[list[list[int]]] = []
        for index in range(len(records)):
            self._engine.apply(single[index : index + 1], self._ordinal)
            self._ordinal += 1
            action, flags = int(records["action"][index]), int(records["flags"][index])
            hidden = flags & F_SNAPSHOT and not flags & F_LAST and action != ACTION_CLEAR
            if hidden or not (self._ask(key) or action in (ACTION_TRADE, ACTION_CLEAR)):
                continue
            chosen.append(index)
            bids, asks = (side + [Level(UNDEF_PX, 0, 0)] * (self._depth - len(side)) for side in self._last)
            books.append(
                [
                    [b.price, a.price, b.size, a.size, b.count, a.count]
                    for b, a in zip(bids, asks, strict=True)
                ]
            )
        if chosen:
            book = np.minimum(np.array(books, np.int64), [UNDEF_PX, UNDEF_PX, *[mbp_kernel.U32_MAX] * 4])
            yield self._made(records[chosen], np.zeros(len(chosen), np.int64), book)


def _table(slots: int) -> NDArray[np.int64]:
    """An empty order table: order id, price, side (0 bid, 1 ask)."""
    table = np.zeros((slots, 3), np.int64)
    table[:, 1] = mbp_kernel.FREE
    return table
