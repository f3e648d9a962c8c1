"""The fast engine: arrays for the kernel, room in them, and its outputs as batches.

The kernel stops when a pool is full; `_make_room` doubles it (a copy of 32 bytes an order or level, and a rehash of the
order table: 15-40 ms at a million orders, so start with room for what you expect if that matters).
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import units
from shared.errors import ImageError
from shared.orderbook import image as images
from shared.orderbook import kernel, views, walk
from shared.orderbook import layout as lo
from shared.orderbook.engine import ANOMALIES, POLICIES, Batch, Level, Order, Outputs, Place, Policy
from shared.records import (
    AUCTION,
    BBO,
    BOOK_SNAPSHOT,
    EFFECT,
    LEVEL,
    MBO,
    ORDER,
    TOUCHED,
    TRADE,
    Rows,
    empty,
)
from shared.units import SIDE_ASK, SIDE_BID

Array = NDArray[Any]
SIDES = (SIDE_BID, SIDE_ASK)
PIECE = 65_536  # records in one run of the kernel; larger batches are cut, which shows nowhere
_ORDERS, _LEVELS, _CHUNKS, _DIRS, _BOOKS = 4096, 1024, 128, 1024, 32  # room at first
_MODES = {"raw": kernel.RAW, "uncross": kernel.UNCROSS, "execute": kernel.EXECUTING}
_NO_ORDINALS: Array = np.empty(0, np.int64)
_NO_SLOTS: Array = np.empty(0, np.uint32)


def _zeros(n: int, kind: Any = np.int64) -> Array:
    """n zero words that begin at a cache line."""
    size = np.dtype(kind).itemsize
    raw = np.zeros(n + 64 // size, kind)
    skip = -raw.ctypes.data % 64 // size
    return raw[skip : skip + n]


def _grown(old: Array, n: int) -> Array:
    new = _zeros(n, old.dtype)
    new[: len(old)] = old
    return new


class Books:
    """See shared.orderbook.engine.Engine. Not thread-safe; the kernel runs without the GIL."""

    def __init__(self, policy: Policy = "uncross", *, outputs: Outputs = "all") -> None:
        self.policy = policy
        self.outputs = outputs
        self._mode = _MODES[policy] | (kernel.EVERYTHING if outputs == "all" else 0)
        self._touched_slots: Array = np.empty(0, np.uint32)
        self._reset()

    def _reset(self) -> None:
        """Empty pools, small again."""
        self._ordinal = 0
        self._meta = _zeros(lo.META_WORDS)
        for at in (lo.ORDERS_USED, lo.LEVELS_USED, lo.CHUNKS_USED):
            self._meta[at] = 1  # 0 is "none"
        # Nobody outside can choose order ids that collide.
        self._meta[lo.SEED] = secrets.randbits(63)
        self._meta[lo.SEED2] = secrets.randbits(62) * 2 + 1
        self._books = _zeros(_BOOKS * lo.BOOK_WORDS)
        self._index = _zeros(4 * _BOOKS, np.int32)
        self._table = _zeros(4 * _ORDERS * lo.HASH_WORDS)
        self._orders = _zeros(_ORDERS * lo.ORDER_WORDS)
        self._fills = _zeros(_ORDERS)
        self._levels = _zeros(_LEVELS * lo.LEVEL_WORDS)
        self._chunks = _zeros((_CHUNKS + 1) * lo.CAP * lo.ENTRY_WORDS)
        self._chunk_n = _zeros(_CHUNKS, np.uint32)
        self._dirs = _zeros(_DIRS, np.uint32)
        self._dirty = _zeros(4 * _LEVELS * lo.DIRTY_WORDS)
        self._graves = _zeros(8 * _LEVELS, np.int32)
        self._drop_carry()
        self._size_outputs(1024)

    def _drop_carry(self) -> None:
        self._carry: list[Array] = []  # rows of 7 words, in order
        self._carry_ordinals: Array = _NO_ORDINALS
        self._carry_slots: Array = _NO_SLOTS

    def _size_outputs(self, n: int) -> None:
        """Room for the rows of n records. Every record makes at most one row of a kind."""
        self._room = n
        self._slots: Array = np.zeros(n, np.uint32)
        self._held: Array = np.zeros(n, np.uint32)
        self._bbo: Array = np.empty(n * 9, np.int64)
        self._trades: Array = np.empty(n * 7, np.int64)
        self._auctions: Array = np.empty(n * 11, np.int64)
        self._effects: Array = np.empty(4, np.int64)
        self._touched_slots = np.concatenate(
            (self._touched_slots, np.zeros(max(0, n - len(self._touched_slots)), np.uint32))
        )

    # --- input ---------------------------------------------------------------------------------------------------

    def apply(self, records: Rows, first: int, *, effects: bool = False) -> Batch:
        n = len(records)
        words = np.ascontiguousarray(records).view(np.uint64)
        if not words.flags.aligned:  # a view of a file: 3 ns a record
            words = words.copy()
        made = _Made()
        self._meta[lo.BATCH] += 1
        for at in range(0, n, PIECE):
            piece = words[at * 7 : (at + PIECE) * 7] if n > PIECE else words
            self._run(piece, first + at, made, effects=effects)
        if n:
            self._ordinal = first + n - 1
        return self._flush(made, effects)

    def end(self, ordinal: int | None = None) -> Batch:
        ordinal = self._ordinal + 1 if ordinal is None else ordinal
        slots = [
            slot for slot in self._sorted_slots().tolist()
            if self._word(slot, lo.OPEN) or self._word(slot, lo.STATE) & lo.IN_SNAPSHOT
        ]  # fmt: skip
        batch = self._pretend(slots, ord("N"), ordinal)
        self._ordinal = ordinal
        return batch

    def clear(self, instrument_id: int | None = None, ordinal: int | None = None) -> Batch:
        ordinal = self._ordinal + 1 if ordinal is None else ordinal
        slots = [
            slot for slot in self._sorted_slots().tolist()
            if instrument_id is None or self._word(slot, lo.KEY) >> 16 == instrument_id
        ]  # fmt: skip
        self._drop_carry_of(slots)
        batch = self._pretend(slots, ord("R"), ordinal)
        if instrument_id is None:
            self._reset()
        else:
            self._forget(slots)
            self._ordinal = ordinal
        return batch

    def _pretend(self, slots: list[int], action: int, ordinal: int) -> Batch:
        """Records nobody sent, one a book, which end its event: N at the end of the session, R to clear."""
        records = np.zeros(len(slots), MBO)
        keys = self._book_table()[slots, lo.KEY]
        records["publisher_id"], records["instrument_id"] = keys & 0xFFFF, keys >> 16
        records["action"], records["flags"] = action, units.F_LAST
        made = _Made()
        self._meta[lo.BATCH] += 1
        if slots:
            self._run(records.view(np.uint64), ordinal, made, synthetic=len(slots))
            applied = self._book_table()[:, lo.APPLY]
            np.minimum(applied, ordinal, out=applied)
        return self._flush(made, False)

    def _run(
        self,
        words: Array,
        first: int,
        made: _Made,
        *,
        effects: bool = False,
        synthetic: int = 0,
    ) -> None:
        n, meta = len(words) // 7, self._meta
        if n > self._room:
            self._size_outputs(max(n, min(PIECE, 2 * self._room)))
        at = 0
        while True:
            at = kernel.scan(words, first, at, self._slots, meta, self._books, self._index)
            if at == n:
                break
            self._more_books()
        slots, carried = self._slots, _NO_ORDINALS
        joined = len(self._carry_slots) > 0 and self._carry_ends(first)
        if joined:
            carried = self._carry_ordinals
            words = np.concatenate([*self._carry, words.reshape(-1, 7)]).reshape(-1)
            slots = np.concatenate((self._carry_slots, slots[:n]))
            interrupted = self._book_table()[self._carry_slots, lo.INTERRUPTED] == carried
            slots[: len(carried)][interrupted] |= np.uint32(lo.ENTERS)
            self._drop_carry()
            n += len(carried)
            if n > self._room:
                self._size_outputs(n)
        if effects and len(self._effects) < n * 4:
            self._effects = np.empty(self._room * 4, np.int64)
        mode = self._mode | (kernel.WITH_EFFECTS if effects else 0)
        while True:
            kernel.run(
                words, carried, first, synthetic, mode, slots, self._held, meta, self._books, self._table,
                self._orders, self._orders.view(np.uint32), self._levels, self._levels.view(np.uint32), self._chunks,
                self._chunk_n, self._dirs, self._fills, self._dirty, self._graves, self._touched_slots,
                self._bbo, self._trades, self._auctions, self._effects,
            )  # fmt: skip
            if meta[lo.POSITION] == n:
                break
            self._make_room(n)
        made.take(self, words, effects)
        if meta[lo.HELD]:
            self._hold(words, slots, carried, first)

    def _carry_ends(self, first: int) -> bool:
        """Whether an event of the carry ends in the batch just scanned."""
        return bool((self._book_table()[self._carry_slots, lo.APPLY] >= first).any())

    def _hold(self, words: Array, slots: Array, carried: Array, first: int) -> None:
        held = self._held[: self._meta[lo.HELD]].astype(np.int64)
        ordinals = first + held - len(carried)
        if len(carried):
            old = held < len(carried)
            ordinals[old] = carried[held[old]]
        self._carry.append(words.reshape(-1, 7)[held])
        self._carry_ordinals = np.concatenate((self._carry_ordinals, ordinals))
        self._carry_slots = np.concatenate((self._carry_slots, slots[held]))

    def _flush(self, made: _Made, effects: bool) -> Batch:
        meta = self._meta
        dirty, touched = int(meta[lo.DIRTY]), self._touched_slots
        level_rows = np.empty(dirty * 4, np.int64)
        touched_rows = np.empty((int(meta[lo.TOUCHED_BOOKS]) + len(self._carry_slots)) * 4, np.int64)
        kernel.flush(
            meta, self._books, self._levels, self._levels.view(np.uint32), self._carry_slots, self._dirty,
            self._graves, touched, level_rows, touched_rows,
        )  # fmt: skip
        levels = level_rows[: meta[lo.DIRTY] * 4].view(LEVEL)
        if meta[lo.EARLY]:
            levels = _newest(levels)
            meta[lo.EARLY] = 0
        books = touched_rows[: meta[lo.TOUCHED_BOOKS] * 4].view(TOUCHED)
        meta[lo.DIRTY] = meta[lo.TOUCHED_BOOKS] = 0
        if meta[lo.PENDING]:
            self._sort_pending(int(meta[lo.PENDING]))
        bbo, trades, auctions = _join(made.bbo, BBO), _join(made.trades, TRADE), _join(made.auctions, AUCTION)
        if not effects:
            return Batch(bbo, trades, levels, auctions, books)
        done = _join(made.effects, EFFECT)
        done["row"] = np.arange(len(done))
        return Batch(bbo, trades, levels, auctions, books, done, _join(made.records, MBO))

    # --- room ----------------------------------------------------------------------------------------------------

    def _make_room(self, n: int) -> None:
        meta = self._meta
        if meta[lo.REASON] == lo.DIRTY_FULL:
            live = int(meta[lo.LEVELS_USED]) + int(meta[lo.DIRTY])
            need = 1 << (live + 2 * n + 2).bit_length()
            self._dirty = _grown(self._dirty, need * lo.DIRTY_WORDS)
            self._graves = _zeros(2 * need, np.int32)
            walk.mark_dirty(
                meta, self._dirty, self._levels.view(np.uint32), self._graves, int(meta[lo.DIRTY])
            )
            return
        orders = len(self._orders) // lo.ORDER_WORDS
        if orders - meta[lo.ORDERS_USED] + meta[lo.ORDERS_FREE] < orders // 8:
            self._orders = _grown(self._orders, 2 * len(self._orders))
            self._fills = _grown(self._fills, 2 * len(self._fills))
        if len(self._table) // (2 * lo.HASH_WORDS) - meta[lo.HASHED] < len(self._table) // (
            64 * lo.HASH_WORDS
        ):
            table = _zeros(2 * len(self._table))
            walk.rehash(meta, self._table, table)
            self._table = table
        levels = len(self._levels) // lo.LEVEL_WORDS
        if levels - meta[lo.LEVELS_USED] + meta[lo.LEVELS_FREE] < levels // 8:
            self._levels = _grown(self._levels, 2 * len(self._levels))
        chunks = len(self._chunk_n)
        if chunks - meta[lo.CHUNKS_USED] + meta[lo.CHUNKS_FREE] < chunks // 8:
            self._chunks = _grown(self._chunks, (2 * chunks + 1) * lo.CAP * lo.ENTRY_WORDS)
            self._chunk_n = _grown(self._chunk_n, 2 * chunks)
        while len(self._dirs) - meta[lo.DIRS_USED] < lo.DIR_FIRST << (int(meta[lo.DIR_CLASS]) + 1):
            self._dirs = _grown(self._dirs, 2 * len(self._dirs))

    def _more_books(self) -> None:
        self._books = _grown(self._books, 2 * len(self._books))
        slots = self._live_slots()
        self._index = _zeros(2 * len(self._index), np.int32)
        walk.reindex(self._meta, self._books, self._index, slots)

    def _sort_pending(self, n: int) -> None:
        """What waits for the end of a snapshot goes into canonical order: (book, bids first, price)."""
        rows = self._dirty[: n * lo.DIRTY_WORDS].reshape(-1, lo.DIRTY_WORDS)
        side = rows[:, 1] & 1
        keys = self._book_table()[rows[:, 1] >> 1, lo.KEY]
        order = np.lexsort((rows[:, 0] ^ -side, side, keys >> 16, keys & 0xFFFF))
        rows[:] = rows[order]
        walk.mark_dirty(self._meta, self._dirty, self._levels.view(np.uint32), self._graves, n)

    def _drop_carry_of(self, slots: list[int]) -> None:
        table = self._book_table()
        table[slots, lo.OPEN] = 0
        if len(self._carry_slots):
            stays = ~np.isin(self._carry_slots, slots)
            self._carry = [np.concatenate(self._carry)[stays]]
            self._carry_ordinals = self._carry_ordinals[stays]
            self._carry_slots = self._carry_slots[stays]

    def _forget(self, slots: list[int]) -> None:
        """Give the slots of emptied books back, with their chunks and directories."""
        meta, table = self._meta, self._book_table()
        stays = np.setdiff1d(self._live_slots(), slots)
        for slot in slots:
            for side in (0, 1):
                at = lo.SIDE + 4 * side
                chunk, where = int(table[slot, at + lo.CHUNK]), int(table[slot, at + lo.DIR])
                if chunk:
                    self._chunk_n[chunk] = meta[lo.CHUNK_FREE]
                    meta[lo.CHUNK_FREE] = chunk
                    meta[lo.CHUNKS_FREE] += 1
                if where:
                    free = lo.DIR_FREE + (where & 0xFF) - 1
                    self._dirs[where >> 8] = meta[free]
                    meta[free] = (where >> 8) + 1
            table[slot] = 0  # the slot is not found any more; its next owner begins with zeros too
            table[slot, lo.KEY] = meta[lo.BOOK_FREE]
            meta[lo.BOOK_FREE] = slot + 1
        self._index = _zeros(len(self._index), np.int32)
        walk.reindex(meta, self._books, self._index, stays)

    # --- views ---------------------------------------------------------------------------------------------------

    def _book_table(self) -> Array:
        return self._books.reshape(-1, lo.BOOK_WORDS)

    def _word(self, slot: int, at: int) -> int:
        return int(self._books[slot * lo.BOOK_WORDS + at])

    def _live_slots(self) -> Array:
        return self._index[self._index > 0].astype(np.int64) - 1

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
        order = int(walk.find_order(self._meta, self._table, slot, signed)) if slot >= 0 else 0
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

    # --- images --------------------------------------------------------------------------------------------------

    def image(self) -> bytes:
        return images.encode(self.state())

    def state_hash(self) -> str:
        return images.state_hash(self.image())

    def freeze(self) -> Callable[[], bytes]:
        """The arrays are copied here (a few ms for 200,000 orders), walked and encoded in the call."""
        twin = copy.copy(self)
        for name in _ARRAYS:
            setattr(twin, name, getattr(self, name).copy())
        twin._carry = list(self._carry)
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
        carry = np.concatenate(self._carry).reshape(-1).view(MBO) if self._carry else empty(MBO)
        return images.Frozen(
            policy=self.policy,
            ordinal=self._ordinal,
            books=state,
            levels=level_state,
            orders=order_state,
            executed=self._executed_ids(slots),
            pending=pending_state,
            carry=carry,
            carry_ordinals=self._carry_ordinals.astype(np.uint64),
        )

    def _executed_ids(self, slots: Array) -> Array:
        found = [np.empty(0, np.uint64)]
        for slot in slots[self._book_table()[slots, lo.EXECUTED_COUNT] > 0].tolist():
            out = np.empty(self._word(slot, lo.EXECUTED_COUNT), np.int64)
            walk.executed_ids(self._books, self._orders, self._orders.view(np.uint32), slot, out)
            found.append(np.sort(out.view(np.uint64)))
        return np.concatenate(found)

    @classmethod
    def restore(cls, body: bytes, *, outputs: Outputs = "all") -> Books:
        return cls.thaw(images.decode(body), outputs=outputs)

    @classmethod
    def thaw(cls, state: images.Frozen, *, outputs: Outputs = "all") -> Books:
        """The engine of a state: its orders are added again, one record each, then every other word is set."""
        self = cls("raw", outputs="bbo")
        self.apply(_as_records(state), 0)
        meta, table, books = self._meta, self._book_table(), state.books
        there = int(meta[lo.ORDERS_USED]) - 1
        if there != len(state.orders) or int(meta[lo.BOOKS_USED]) != len(books):
            raise ImageError("a book image with orders that cannot be: damaged")
        self.policy, self.outputs = POLICIES[POLICIES.index(state.policy)], outputs
        self._mode = _MODES[state.policy] | (kernel.EVERYTHING if outputs == "all" else 0)
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
            self._orders = _grown(self._orders, 2 * len(self._orders))
            self._fills = _grown(self._fills, 2 * len(self._fills))
        while len(self._table) // lo.HASH_WORDS < 2 * need:
            table = _zeros(2 * len(self._table))
            walk.rehash(self._meta, self._table, table)
            self._table = table
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
        if min(slots) < 0:
            raise ImageError("a book image that holds records of no book: damaged")
        self._carry_slots = np.array(slots, np.uint32)
        self._carry_ordinals = state.carry_ordinals.astype(np.int64)
        self._carry = [np.ascontiguousarray(state.carry).view(np.uint64).reshape(-1, 7).copy()]
        table = self._book_table()
        table[:, lo.OPEN] = np.bincount(self._carry_slots, minlength=len(table))
        first = np.unique(self._carry_slots, return_index=True)
        table[first[0], lo.FIRST_HELD] = self._carry_ordinals[first[1]]

    def _restore_pending(self, state: images.Frozen) -> None:
        n = len(state.pending)
        if not n or self.outputs != "all":
            return
        side = (state.pending["side"] == SIDE_ASK).astype(np.int64)
        slots = np.repeat(np.arange(len(state.books)), state.books["pending"])
        need = 1 << (n + int(self._meta[lo.LEVELS_USED]) + 2).bit_length()
        self._dirty, self._graves = _zeros(need * lo.DIRTY_WORDS), _zeros(2 * need, np.int32)
        rows = self._dirty[: n * lo.DIRTY_WORDS].reshape(-1, lo.DIRTY_WORDS)
        rows[:, 0], rows[:, 1] = state.pending["price"] ^ -side, slots << 1 | side
        for row in rows:
            owner = int(row[1])
            row[2] = walk.find_level(
                self._books, self._chunks, self._chunk_n, self._dirs, owner >> 1, owner & 1, int(row[0])
            )
        walk.mark_dirty(self._meta, self._dirty, self._levels.view(np.uint32), self._graves, n)


class _Made:
    """Rows made in the pieces of one batch."""

    def __init__(self) -> None:
        self.bbo: list[Rows] = []
        self.trades: list[Rows] = []
        self.auctions: list[Rows] = []
        self.effects: list[Rows] = []
        self.records: list[Rows] = []

    def take(self, engine: Books, words: Array, effects: bool) -> None:
        meta = engine._meta
        bbo, trades, auctions = meta[lo.BBO_ROWS], meta[lo.TRADE_ROWS], meta[lo.AUCTION_ROWS]
        if bbo:
            self.bbo.append(engine._bbo[: bbo * 9].copy().view(BBO))
        if trades:
            rows = engine._trades[: trades * 7].copy().view(TRADE)
            self.trades.append(rows[np.argsort(rows["end"], kind="stable")] if meta[lo.INTERLEAVED] else rows)
        if auctions:
            self.auctions.append(engine._auctions[: auctions * 11].copy().view(AUCTION))
        if effects:
            rows = engine._effects[: meta[lo.EFFECT_ROWS] * 4].copy().view(EFFECT)
            if (rows["end"][1:] < rows["end"][:-1]).any():
                rows = rows[np.argsort(rows["end"], kind="stable")]
            self.effects.append(rows)
            self.records.append(words.reshape(-1, 7)[rows["row"]].reshape(-1).view(MBO))


# What an image is made from; the other arrays are room for outputs, or found again from these.
_ARRAYS = (
    "_meta", "_books", "_index", "_orders", "_levels", "_chunks", "_chunk_n", "_dirs", "_dirty", "_carry_ordinals",
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


def _join(parts: list[Rows], layout: Any) -> Rows:
    if not parts:
        return empty(layout)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _newest(rows: Rows) -> Rows:
    """Without the rows that a later one of the same level supersedes: a snapshot began and ended in the batch."""
    last = {key: i for i, key in enumerate(rows[["publisher_id", "instrument_id", "side", "price"]].tolist())}
    return rows[sorted(last.values())]


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
