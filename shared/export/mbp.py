"""MBP rows (market by price, the best levels) derived from MBO records, as Databento's mbp-1 and mbp-10 have them.

A row for every record that changes one of the best levels, with the book right after that record, and for every trade;
a trade whose fills are booked right behind it is shown with the book after the first of them (the truth rows of the arl
file). Records inside a snapshot make no rows but its last. What a record does is decided by the engine (policy raw), on
records of which each ends its event, because MBP rows show the states inside an event too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shared.export import layouts, mbp_kernel
from shared.orderbook.engine import Engine, Level
from shared.orderbook.engines import make_engine
from shared.records import MBO, MBO_SIGNED, Rows, joined
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
)

_LAYOUTS = {1: (layouts.MBP1, layouts.RTYPE_MBP1), 10: (layouts.MBP10, layouts.RTYPE_MBP10)}
_FIRST_LEVELS, _FIRST_ORDERS = 256, 4096
_ROWS = 8_192  # rows made in one run of the kernel
_I64_MAX = 2**63 - 1


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
        self._out = np.empty((_ROWS, self._layout.itemsize // 8), np.int64)
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
        records = joined([*self._waiting, records]) if self._waiting else records
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
        records, words = _words(records)
        single, _ = _words(records, copy=True)
        single["flags"] |= F_LAST
        if self._by_levels:
            yield from self._one_by_one(records, words, single)
            return
        batch = self._engine.apply(single, self._ordinal, effects=True)
        self._ordinal += len(single)
        assert batch.effects is not None
        assert len(batch.effects) == len(records)
        done = 0
        while True:
            self._room()
            done, made = mbp_kernel.follow(
                records.view(MBO_SIGNED), words, batch.effects, done, self._depth, self._rtype, self._levels,
                self._used, self._table, self._held, self._out, 10 if self._depth == 10 else 0, final,
            )  # fmt: skip
            if made:
                yield self._made(made)
            if done == len(records):
                return

    def _made(self, count: int) -> Rows:
        rows: Rows = self._out[:count].copy().reshape(-1).view(self._layout)
        return rows

    def _one_by_one(self, records: Rows, words: NDArray[np.int64], single: Rows) -> Iterator[Rows]:
        """The same by asking the engine after each record: for books known only in sums."""
        key = (int(records["publisher_id"][0]), int(records["instrument_id"][0]))
        levels, used, made = np.zeros((2, self._depth, 3), np.int64), np.zeros(2, np.int64), 0
        for index in range(len(records)):
            self._engine.apply(single[index : index + 1], self._ordinal)
            self._ordinal += 1
            action, flags = int(records["action"][index]), int(records["flags"][index])
            hidden = flags & F_SNAPSHOT and not flags & F_LAST and action != ACTION_CLEAR
            if hidden or not (self._ask(key) or action in (ACTION_TRADE, ACTION_CLEAR)):
                continue
            for side, best in enumerate(self._last):
                used[side] = len(best)
                if best:
                    capped = [(px, min(size, _I64_MAX), count) for px, size, count in reversed(best)]
                    levels[side, : len(best)] = capped
            mbp_kernel.put(words[index], 0, self._depth, self._rtype, levels, used, self._out[made])
            made += 1
            if made == _ROWS:
                yield self._made(made)
                made = 0
        if made:
            yield self._made(made)


def _words(records: Rows, *, copy: bool = False) -> tuple[Rows, NDArray[np.int64]]:
    """Records and their words (n, 7) over the same bytes, aligned; a copy of them if asked for."""
    words = np.ascontiguousarray(records).view(np.int64)
    if copy or not words.flags.aligned:
        words = words.copy()
    return words.view(MBO), words.reshape(-1, 7)


def _table(slots: int) -> NDArray[np.int64]:
    """An empty order table: order id, price, side (0 bid, 1 ask)."""
    table = np.zeros((slots, 3), np.int64)
    table[:, 1] = mbp_kernel.FREE
    return table
