"""The arrays, asked for: levels, orders, places, rows. The kernel changes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from shared.orderbook import layout as lo
from shared.orderbook import views, walk
from shared.orderbook.arrays import Array, Arrays
from shared.orderbook.engine import ANOMALIES, Level, Order, Place
from shared.records import AUCTION, BBO, LEVEL, ORDER, TOUCHED, Rows, empty
from shared.units import SIDE_ASK, SIDE_BID

SIDES = (SIDE_BID, SIDE_ASK)


class ArrayViews(Arrays):
    """The reading half of shared.orderbook.engine.Engine."""

    def _sorted_slots(self) -> Array:
        slots = self._live_slots()
        keys = self._book_table()[slots, lo.KEY]
        return slots[np.lexsort((keys >> 16, keys & 0xFFFF))]

    def _slot(self, publisher_id: int, instrument_id: int) -> int:
        return int(walk.find_book(self._meta, self._books, self._index, instrument_id << 16 | publisher_id))

    def books(self) -> list[tuple[int, int]]:
        keys = self._book_table()[self._sorted_slots(), lo.KEY]
        return list(zip((keys & 0xFFFF).tolist(), (keys >> 16).tolist(), strict=True))

    def records(self, publisher_id: int, instrument_id: int) -> int:
        slot = self._slot(publisher_id, instrument_id)
        return 0 if slot < 0 else self._word(slot, lo.RECORDS)

    def _level_rows(self, slot: int, side: int, limit: int | None) -> Rows:
        there = self._word(slot, lo.LEVELS + side)
        n = there if limit is None else min(limit, there)
        out = np.empty(max(0, n) * 4, np.int64)
        self._put_levels(slot, side, n, out, 0)
        return out.view(LEVEL)

    def _put_levels(self, slot: int, side: int, limit: int, out: Array, at: int) -> int:
        return int(
            walk.side_levels(
                self._books, self._levels, self._levels.view(np.uint32), self._chunks, self._chunk_n, self._dirs,
                slot, side, limit, out, at,
            )
        )  # fmt: skip

    def levels(
        self, publisher_id: int, instrument_id: int, side: int, limit: int | None = None
    ) -> list[Level]:
        slot = self._slot(publisher_id, instrument_id)
        if slot < 0 or side not in SIDES:
            return []
        rows = self._level_rows(slot, int(side == SIDE_ASK), limit)
        columns = (rows[name].tolist() for name in ("price", "size", "count"))
        return [Level(*level) for level in zip(*columns, strict=True)]

    def view(
        self, publisher_id: int, instrument_id: int, limit: int | None = None
    ) -> tuple[list[Level], list[Level]]:
        slot = self._slot(publisher_id, instrument_id)
        crossed = slot >= 0 and self._word(slot, lo.AUCTION) != 0
        bids, asks = (
            self.levels(publisher_id, instrument_id, side, None if crossed else limit) for side in SIDES
        )
        if crossed:
            at = slot * lo.BOOK_WORDS + lo.AUCTION
            first = self._books[at + 3 : at + 9].tolist()
            bids = views.overlaid(bids, Level(*first[:3]), SIDE_BID)
            asks = views.overlaid(asks, Level(*first[3:]), SIDE_ASK)
        return bids[:limit], asks[:limit]

    def orders(
        self, publisher_id: int, instrument_id: int, side: int, price: int | None = None
    ) -> Iterator[Order]:
        slot = self._slot(publisher_id, instrument_id)
        if slot < 0 or side not in SIDES:
            return iter(())
        which = int(side == SIDE_ASK)
        if price is None:
            rows = self._side_orders(slot, which)
        elif -(2**63) <= price < 2**63:
            rows = self._level_orders(slot, which, price)
        else:
            return iter(())
        columns = (rows[name].tolist() for name in ("order_id", "price", "size", "ts_event"))
        return map(Order, *columns)

    def _level_of(self, slot: int, side: int, price: int) -> int:
        return int(
            walk.find_level(self._books, self._chunks, self._chunk_n, self._dirs, slot, side, price ^ -side)
        )

    def _level_orders(self, slot: int, side: int, price: int) -> Rows:
        level = self._level_of(slot, side, price)
        levels4 = self._levels.view(np.uint32)
        out = np.empty(int(levels4[level * 8 + lo.L_COUNT]) * 4 if level else 0, np.int64)
        if level:
            walk.queue(self._orders, self._orders.view(np.uint32), levels4, level, price, side, out, 0)
        return out.view(ORDER)

    def _side_orders(self, slot: int, side: int) -> Rows:
        levels = self._level_rows(slot, side, None)
        out = np.empty(int(levels["count"].sum()) * 4, np.int64)
        at = 0
        for price in levels["price"].tolist():
            level = self._level_of(slot, side, price)
            at += walk.queue(
                self._orders,
                self._orders.view(np.uint32),
                self._levels.view(np.uint32),
                level,
                price,
                side,
                out,
                at,
            )
        return out.view(ORDER)

    def order_rows(self, publisher_id: int, instrument_id: int) -> Rows:
        slot = self._slot(publisher_id, instrument_id)
        if slot < 0:
            return empty(ORDER)
        return np.concatenate([self._side_orders(slot, side) for side in (0, 1)])

    def place(self, publisher_id: int, instrument_id: int, order_id: int) -> Place | None:
        slot = self._slot(publisher_id, instrument_id)
        signed = np.uint64(order_id).astype(np.int64)
        order = int(walk.find_order(self._meta, self._table, self._orders, slot, signed)) if slot >= 0 else 0
        orders4 = self._orders.view(np.uint32)
        where = int(orders4[order * 8 + lo.O_LEVEL])
        if not order or where == lo.O_EXECUTED:
            return None
        side = where & 1
        out = np.zeros(2, np.int64)
        walk.ahead(orders4, order, out)
        price = int(self._levels[(where >> 2) * lo.LEVEL_WORDS]) ^ -side
        ts_event = int(self._orders[order * lo.ORDER_WORDS + 1].astype(np.uint64))
        seen = Order(order_id, price, int(orders4[order * 8 + lo.O_SIZE]), ts_event)
        return Place(seen, SIDES[side], int(out[0]), int(out[1]))

    def anomalies(self, publisher_id: int | None = None, instrument_id: int | None = None) -> dict[str, int]:
        slots = self._live_slots()
        keys = self._book_table()[slots, lo.KEY]
        chosen = np.ones(len(slots), bool)
        if publisher_id is not None:
            chosen &= (keys & 0xFFFF) == publisher_id
        if instrument_id is not None:
            chosen &= keys >> 16 == instrument_id
        counts = self._book_table()[slots[chosen], lo.COUNTS : lo.BOOK_WORDS].sum(axis=0).tolist()
        return {ANOMALIES[code]: count for code, count in enumerate(counts) if count}

    def level_rows(self) -> Rows:
        slots, table = self._sorted_slots(), self._book_table()
        out = np.empty(int(table[slots, lo.LEVELS : lo.LEVELS + 2].sum()) * 4, np.int64)
        at = 0
        for slot in slots.tolist():
            for side in (0, 1):
                at += self._put_levels(slot, side, 1 << 62, out, at)
        return out.view(LEVEL)

    def _stamped(self, layout: Any, slots: Array) -> Rows:
        table = self._book_table()
        rows = np.zeros(len(slots), layout)
        for name, at in (("ordinal", lo.ORDINAL), ("ts_event", lo.TS_EVENT), ("ts_recv", lo.TS_RECV)):
            rows[name] = table[slots, at].view(np.uint64)
        rows["instrument_id"], rows["publisher_id"] = (
            table[slots, lo.KEY] >> 16,
            table[slots, lo.KEY] & 0xFFFF,
        )
        return rows

    def _sides(self, rows: Rows, slots: Array, at: int) -> None:
        names = [f"{side}_{what}" for side in ("bid", "ask") for what in ("px", "sz", "ct")]
        for i, name in enumerate(names):
            rows[name] = self._book_table()[slots, at + i]

    def bbo_rows(self) -> Rows:
        slots = self._sorted_slots()
        rows = self._stamped(BBO, slots)
        rows["flags"] = self._book_table()[slots, lo.FLAGS]
        self._sides(rows, slots, lo.BBO)
        return rows

    def touched_rows(self) -> Rows:
        slots = self._sorted_slots()
        rows = self._stamped(TOUCHED, slots)
        rows["flags"] = self._book_table()[slots, lo.FLAGS]
        return rows

    def auction_rows(self) -> Rows:
        slots = self._sorted_slots()
        slots = slots[self._book_table()[slots, lo.AUCTION] != 0]
        rows = self._stamped(AUCTION, slots)
        rows["present"] = 1
        rows["price"] = self._book_table()[slots, lo.AUCTION + 1]
        rows["size"] = self._book_table()[slots, lo.AUCTION + 2]
        self._sides(rows, slots, lo.AUCTION + 3)
        return rows
