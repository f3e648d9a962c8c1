"""The arrays' canonical state: taken (`state`), and an engine made of one (`thaw`)."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import numpy as np

from shared import units
from shared.errors import ImageError
from shared.orderbook import image as images
from shared.orderbook import layout as lo
from shared.orderbook import walk
from shared.orderbook.arrays import Array, grown, mode_of, zeros
from shared.orderbook.books_views import ArrayViews
from shared.orderbook.engine import POLICIES, Batch, Outputs
from shared.records import BOOK_SNAPSHOT, MBO, Rows
from shared.units import SIDE_ASK, SIDE_BID

# What an image is made from; the other arrays are room for outputs, or found again from these.
_ARRAYS = (
    "_meta", "_books", "_index", "_orders", "_levels", "_chunks", "_chunk_n", "_dirs", "_dirty",
)  # fmt: skip

# Words of a book and their names in an image, where they are the same.
_STATE_WORDS = (
    ("flags", lo.FLAGS), ("auction", lo.AUCTION), ("ordinal", lo.ORDINAL), ("ts_event", lo.TS_EVENT),
    ("ts_recv", lo.TS_RECV), ("records", lo.RECORDS), ("last_px", lo.LAST_PX), ("bid_px", lo.BBO),
    ("bid_sz", lo.BBO + 1), ("bid_ct", lo.BBO + 2), ("ask_px", lo.BBO + 3), ("ask_sz", lo.BBO + 4),
    ("ask_ct", lo.BBO + 5), ("auction_px", lo.AUCTION + 1), ("auction_sz", lo.AUCTION + 2),
    ("auction_bid_px", lo.AUCTION + 3), ("auction_bid_sz", lo.AUCTION + 4), ("auction_bid_ct", lo.AUCTION + 5),
    ("auction_ask_px", lo.AUCTION + 6), ("auction_ask_sz", lo.AUCTION + 7), ("auction_ask_ct", lo.AUCTION + 8),
    ("bids", lo.LEVELS), ("asks", lo.LEVELS + 1), ("executed", lo.EXECUTED_COUNT),
)  # fmt: skip


class ArrayImages(ArrayViews):
    """Images, in terms of arrays."""

    @abstractmethod
    def apply(self, records: Rows, first: int, *, effects: bool = False) -> Batch: ...

    def image(self) -> bytes:
        return images.encode(self.state())

    def state_hash(self) -> str:
        return images.state_hash(self.image())

    def freeze(self) -> Callable[[], bytes]:
        """The arrays are copied here (a few ms for 200,000 orders), walked and encoded in the call."""
        twin = copy.copy(self)
        for name in _ARRAYS:
            setattr(twin, name, getattr(self, name).copy())
        twin._carry, twin._carry_ordinals = (part.copy() for part in self._carried()[:2])
        return twin.image

    def state(self) -> images.Frozen:
        meta, slots, table = self._meta, self._sorted_slots(), self._book_table()
        levels = np.empty((int(meta[lo.LEVELS_USED] - meta[lo.LEVELS_FREE]) - 1, 2), np.int64)
        orders = np.empty(
            (int(meta[lo.ORDERS_USED] - meta[lo.ORDERS_FREE] - meta[lo.EXECUTED_ORDERS]) - 1, 3), np.int64
        )
        walk.freeze(
            self._orders, self._orders.view(np.uint32), self._levels.view(np.uint32), self._chunks, self._chunk_n,
            self._dirs, self._books, slots, levels.reshape(-1), orders.reshape(-1),
        )  # fmt: skip
        level_state = np.empty(len(levels), images.LEVEL_STATE)
        level_state["price"], level_state["orders"] = levels.T
        order_state = np.empty(len(orders), images.ORDER_STATE)
        order_state["order_id"], order_state["ts_event"] = (
            orders[:, 0].view(np.uint64),
            orders[:, 1].view(np.uint64),
        )
        order_state["size"], order_state["aggregate"] = orders[:, 2] & 0xFFFF_FFFF, orders[:, 2] >> 32
        pending = self._dirty[: meta[lo.DIRTY] * lo.DIRTY_WORDS].reshape(-1, lo.DIRTY_WORDS)
        pending_state = np.empty(len(pending), images.PENDING_STATE)
        side = pending[:, 1] & 1
        pending_state["price"], pending_state["side"] = (
            pending[:, 0] ^ -side,
            np.where(side, SIDE_ASK, SIDE_BID),
        )
        state = np.zeros(len(slots), images.BOOK_STATE)
        for name, at in _STATE_WORDS:
            column = table[slots, at]
            state[name] = column.view(np.uint64) if state.dtype[name].kind == "u" else column
        state["publisher_id"], state["instrument_id"] = (
            table[slots, lo.KEY] & 0xFFFF,
            table[slots, lo.KEY] >> 16,
        )
        state["maybe_bad"] = table[slots, lo.STATE] & lo.MAYBE_BAD
        state["anomalies"] = table[slots, lo.COUNTS : lo.BOOK_WORDS]
        state["pending"] = np.bincount(pending[:, 1] >> 1, minlength=len(table))[slots]
        carry, carry_ordinals, _ = self._carried()
        return images.Frozen(
            policy=self.policy,
            ordinal=self._ordinal,
            books=state,
            levels=level_state,
            orders=order_state,
            executed=self._executed_ids(slots),
            pending=pending_state,
            carry=carry.reshape(-1).view(MBO).copy(),
            carry_ordinals=carry_ordinals.astype(np.uint64),
        )

    def _executed_ids(self, slots: Array) -> Array:
        found = [np.empty(0, np.uint64)]
        for slot in slots[self._book_table()[slots, lo.EXECUTED_COUNT] > 0].tolist():
            out = np.empty(self._word(slot, lo.EXECUTED_COUNT), np.int64)
            walk.executed_ids(self._books, self._orders, self._orders.view(np.uint32), slot, out)
            found.append(np.sort(out.view(np.uint64)))
        return np.concatenate(found)

    @classmethod
    def restore(cls, body: bytes, *, outputs: Outputs = "all") -> Self:
        return cls.thaw(images.decode(body), outputs=outputs)

    @classmethod
    def thaw(cls, state: images.Frozen, *, outputs: Outputs = "all") -> Self:
        """The engine of a state: its orders are added again, one record each, then every other word is set."""
        self = cls("raw", outputs="bbo")
        self.apply(_as_records(state), 0)
        meta, table, books = self._meta, self._book_table(), state.books
        there = int(meta[lo.ORDERS_USED]) - 1
        if there != len(state.orders) or int(meta[lo.BOOKS_USED]) != len(books):
            raise ImageError("a book image with orders that cannot be: damaged")
        self.policy, self.outputs = POLICIES[POLICIES.index(state.policy)], outputs
        self._mode = mode_of(state.policy, outputs)
        self._ordinal = state.ordinal
        n = len(books)
        for name, at in _STATE_WORDS:
            if at not in (lo.LEVELS, lo.LEVELS + 1, lo.EXECUTED_COUNT):
                table[:n, at] = books[name].astype(np.int64)
        table[:n, lo.STATE] = books["maybe_bad"] * lo.MAYBE_BAD | lo.BEST | lo.BEST << 1
        table[:n, lo.STATE] |= np.where(books["flags"] & BOOK_SNAPSHOT, lo.IN_SNAPSHOT, 0)
        table[:n, lo.STATE] |= np.where(books["auction"], lo.MET | lo.MOVED, 0)
        table[:n, lo.APPLY] = table[:n, lo.INTERRUPTED] = -1
        table[:n, lo.COUNTS :] = books["anomalies"]
        self._restore_executed(state)
        self._restore_carry(state)
        self._restore_pending(state)
        return self

    def _restore_executed(self, state: images.Frozen) -> None:
        if not len(state.executed):
            return
        need = int(self._meta[lo.ORDERS_USED]) + len(state.executed)
        while len(self._orders) // lo.ORDER_WORDS < need:
            self._orders = grown(self._orders, 2 * len(self._orders))
            self._fills = grown(self._fills, 2 * len(self._fills))
        while len(self._table) < 2 * need:
            table = zeros(2 * len(self._table))
            walk.rehash(self._table, table, walk.shift_of(table))
            self._table = table
        self._tell()
        ends = np.cumsum(state.books["executed"], dtype=np.int64).tolist()
        for slot, (end, count) in enumerate(zip(ends, state.books["executed"].tolist(), strict=True)):
            if count:
                ids = state.executed[end - count : end].view(np.int64)
                walk.add_executed(
                    self._meta,
                    self._books,
                    self._orders,
                    self._orders.view(np.uint32),
                    self._table,
                    ids,
                    slot,
                )

    def _restore_carry(self, state: images.Frozen) -> None:
        if not len(state.carry):
            return
        keys = state.carry["instrument_id"].astype(np.int64) << 16 | state.carry["publisher_id"]
        slots = [walk.find_book(self._meta, self._books, self._index, key) for key in keys.tolist()]
        if len(slots) > self._room:
            self._size_outputs(len(slots))
        self._meta[lo.CARRY_RECORDS] = len(slots)
        records, ordinals, held = self._carried()
        records[:] = np.ascontiguousarray(state.carry).view(np.int64).reshape(-1, 7)
        ordinals[:], held[:] = state.carry_ordinals, slots
        table = self._book_table()
        table[:, lo.OPEN] = np.bincount(held, minlength=len(table))
        first = np.unique(held, return_index=True)
        table[first[0], lo.FIRST_HELD] = ordinals[first[1]]

    def _restore_pending(self, state: images.Frozen) -> None:
        n = len(state.pending)
        if not n or self.outputs != "all":
            return
        side = (state.pending["side"] == SIDE_ASK).astype(np.int64)
        slots = np.repeat(np.arange(len(state.books)), state.books["pending"])
        need = 1 << (n + int(self._meta[lo.LEVELS_USED]) + 2).bit_length()
        self._dirty, self._graves = zeros(need * lo.DIRTY_WORDS), zeros(2 * need, np.int32)
        rows = self._dirty[: n * lo.DIRTY_WORDS].reshape(-1, lo.DIRTY_WORDS)
        rows[:, 0], rows[:, 1] = state.pending["price"] ^ -side, slots << 1 | side
        for row in rows:
            owner = int(row[1])
            row[2] = walk.find_level(
                self._books, self._chunks, self._chunk_n, self._dirs, owner >> 1, owner & 1, int(row[0])
            )
        walk.mark_dirty(self._meta, self._dirty, self._levels.view(np.uint32), self._graves, n)
        self._tell()


def _as_records(state: images.Frozen) -> Rows:
    """One N a book, so that it exists, in order; then one A an order, best levels first, in queue order."""
    books, levels, orders = state.books, state.levels, state.orders
    both = np.stack((books["bids"], books["asks"]), axis=1).reshape(-1)
    owner = np.repeat(
        np.repeat(np.arange(len(both)), both), levels["orders"]
    )  # of each order: book * 2 + side
    records = np.zeros(len(books) + len(orders), MBO)
    records["flags"] = units.F_LAST
    records["action"][: len(books)] = units.ACTION_NONE
    for name in ("publisher_id", "instrument_id"):
        records[name][: len(books)] = books[name]
        records[name][len(books) :] = books[name][owner >> 1]
    adds = records[len(books) :]
    adds["action"] = units.ACTION_ADD
    adds["side"] = np.where(owner & 1, SIDE_ASK, SIDE_BID)
    adds["price"] = np.repeat(levels["price"], levels["orders"])
    for name in ("order_id", "ts_event", "size"):
        adds[name] = orders[name]
    adds["flags"] |= np.where(orders["aggregate"], units.F_MBP, 0).astype(np.uint8)
    return records
