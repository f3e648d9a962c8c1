"""The kernel's arrays: made, counted and made larger.

The kernel stops when a pool is full; `_make_room` doubles it (a copy of 32 bytes an order or level, and a rehash of the
order table: 15-40 ms at a million orders).
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.orderbook import engine as kinds
from shared.orderbook import layout as lo
from shared.orderbook import pools, walk
from shared.orderbook.engine import Outputs, Policy

Array = NDArray[Any]
_ORDERS, _LEVELS, _CHUNKS, _DIRS, _BOOKS = 4096, 1024, 128, 1024, 32  # room at first
PIECE = 65_536  # records in one run of the kernel; larger batches are cut, which shows nowhere
_MODES = {"raw": pools.RAW, "uncross": pools.UNCROSS, "execute": pools.EXECUTE}


def zeros(n: int, kind: Any = np.int64) -> Array:
    """n zero words that begin at a cache line."""
    size = np.dtype(kind).itemsize
    raw = np.zeros(n + 64 // size, kind)
    skip = -raw.ctypes.data % 64 // size
    return raw[skip : skip + n]


def grown(old: Array, n: int) -> Array:
    new = zeros(n, old.dtype)
    new[: len(old)] = old
    return new


def mode_of(policy: Policy, outputs: Outputs) -> int:
    """What the kernel is to do, in bits."""
    return _MODES[policy] | (pools.EVERYTHING if outputs == "all" else 0)


class Arrays:
    """The memory of one engine, and how its room grows."""

    def __init__(self, policy: Policy = "uncross", *, outputs: Outputs = "all") -> None:
        self.policy = policy
        self.outputs = outputs
        self._mode = mode_of(policy, outputs)
        self._reset()

    def _reset(self) -> None:
        """Empty pools, small again."""
        self._ordinal = 0
        self._meta = zeros(lo.META_WORDS)
        self._at = self._meta.ctypes.data
        self._meta[lo.BATCH] = 1
        self._meta[lo.CARRY_MAX] = kinds.CARRY_RECORDS_MAX
        for at in (lo.ORDERS_USED, lo.LEVELS_USED, lo.CHUNKS_USED):
            self._meta[at] = 1  # 0 is "none"
        # Nobody outside can choose order ids that collide.
        self._meta[lo.SEED] = secrets.randbits(63)
        self._meta[lo.SEED2] = secrets.randbits(62) * 2 + 1
        self._books = zeros(_BOOKS * lo.BOOK_WORDS)
        self._index = zeros(4 * _BOOKS, np.int32)
        self._table = zeros(4 * _ORDERS)
        self._orders = zeros(_ORDERS * lo.ORDER_WORDS)
        self._fills = zeros(_ORDERS)
        self._levels = zeros(_LEVELS * lo.LEVEL_WORDS)
        self._chunks = zeros((_CHUNKS + 1) * lo.CAP * lo.ENTRY_WORDS)
        self._chunk_n = zeros(_CHUNKS, np.uint32)
        self._dirs = zeros(_DIRS, np.uint32)
        self._dirty = zeros(4 * _LEVELS * lo.DIRTY_WORDS)
        self._graves = zeros(8 * _LEVELS, np.int32)
        # The carry: records of 7 words, their ordinals, the slots of their books.
        self._carry, self._carry_ordinals = zeros(0), zeros(0)
        self._carry_slots = zeros(0, np.uint32)
        self._touched_slots = zeros(_BOOKS, np.uint32)
        self._effect_room = 0
        self._size_outputs(1024)

    def _tell(self) -> None:
        """Tell the kernel where the arrays begin and how much they hold: after any of them was made anew."""
        meta = self._meta
        for at, array in (
            (lo.AT_BOOKS, self._books), (lo.AT_INDEX, self._index), (lo.AT_TABLE, self._table),
            (lo.AT_ORDERS, self._orders), (lo.AT_FILLS, self._fills), (lo.AT_LEVELS, self._levels),
            (lo.AT_CHUNKS, self._chunks), (lo.AT_CHUNK_N, self._chunk_n), (lo.AT_DIRS, self._dirs),
            (lo.AT_DIRTY, self._dirty), (lo.AT_GRAVES, self._graves), (lo.AT_SLOTS, self._slots),
            (lo.AT_HELD, self._held), (lo.AT_TOUCHED, self._touched_slots), (lo.AT_BBO, self._bbo),
            (lo.AT_TRADES, self._trades), (lo.AT_AUCTIONS, self._auctions),
            (lo.AT_CARRY, self._carry), (lo.AT_CARRY_ORDINALS, self._carry_ordinals),
            (lo.AT_CARRY_SLOTS, self._carry_slots),
        ):  # fmt: skip
            meta[at] = array.ctypes.data
        meta[lo.BOOK_CAP] = len(self._books) // lo.BOOK_WORDS
        meta[lo.INDEX_CAP] = len(self._index)
        meta[lo.TABLE_CAP] = len(self._table)
        meta[lo.HASH_SHIFT] = walk.shift_of(self._table)
        meta[lo.ORDER_CAP] = len(self._orders) // lo.ORDER_WORDS
        meta[lo.LEVEL_CAP] = len(self._levels) // lo.LEVEL_WORDS
        meta[lo.CHUNK_CAP] = len(self._chunk_n)
        meta[lo.DIR_CAP] = len(self._dirs)
        meta[lo.DIRTY_CAP] = len(self._dirty) // lo.DIRTY_WORDS
        meta[lo.GRAVE_CAP] = len(self._graves)
        meta[lo.ROW_CAP] = self._room

    def _size_outputs(self, n: int) -> None:
        """Room for the rows of n records, the carry's counted. Every record makes at most one row of a kind."""
        self._room = n
        self._slots: Array = np.zeros(n, np.uint32)
        self._held: Array = np.zeros(n, np.uint32)
        self._bbo: Array = np.empty(n * lo.BBO_ROW_WORDS, np.int64)
        self._trades: Array = np.empty(n * lo.TRADE_ROW_WORDS, np.int64)
        self._auctions: Array = np.empty(n * lo.AUCTION_ROW_WORDS, np.int64)
        self._size_effects(n if self._effect_room else 0)
        self._carry = grown(self._carry, n * lo.RECORD_WORDS)
        self._carry_ordinals = grown(self._carry_ordinals, n)
        self._carry_slots = grown(self._carry_slots, n)
        self._tell()

    def _size_effects(self, n: int) -> None:
        """Room for n effects, which only who asks for them has."""
        self._effect_room = n
        self._effects: Array = np.empty(n * lo.EFFECT_ROW_WORDS, np.int64)
        self._meta[lo.AT_EFFECTS] = self._effects.ctypes.data

    def _make_room(self, full: int, n: int) -> None:
        """Twice as much of what is nearly full, so that n more records fit: `go` in the kernel says what."""
        meta = self._meta
        if full == lo.BOOKS_FULL:
            self._more_books()
            return
        if full == lo.OUTPUT_FULL:
            self._size_outputs(max(int(meta[lo.CARRY_RECORDS]) + n, min(PIECE, 2 * self._room)))
            return
        if full == lo.DIRTY_FULL:
            n += int(meta[lo.CARRIED])
            live = int(meta[lo.LEVELS_USED]) + int(meta[lo.DIRTY])
            need = 1 << (live + 4 * n + 2).bit_length()
            self._dirty = grown(self._dirty, need * lo.DIRTY_WORDS)
            self._graves = zeros(2 * need, np.int32)
            walk.mark_dirty(
                meta, self._dirty, self._levels.view(np.uint32), self._graves, int(meta[lo.DIRTY])
            )
            self._tell()
            return
        live_orders = int(meta[lo.ORDERS_USED] - meta[lo.ORDERS_FREE])
        orders = len(self._orders) // lo.ORDER_WORDS
        if orders - live_orders < orders // 8:
            self._orders = grown(self._orders, 2 * len(self._orders))
            self._fills = grown(self._fills, 2 * len(self._fills))
        half = len(self._table) // 2
        if half - live_orders < half // 32:
            table = zeros(2 * len(self._table))
            walk.rehash(self._table, table, walk.shift_of(table))
            self._table = table
        levels = len(self._levels) // lo.LEVEL_WORDS
        if levels - meta[lo.LEVELS_USED] + meta[lo.LEVELS_FREE] < levels // 8:
            self._levels = grown(self._levels, 2 * len(self._levels))
        chunks = len(self._chunk_n)
        if chunks - meta[lo.CHUNKS_USED] + meta[lo.CHUNKS_FREE] < chunks // 8:
            self._chunks = grown(self._chunks, (2 * chunks + 1) * lo.CAP * lo.ENTRY_WORDS)
            self._chunk_n = grown(self._chunk_n, 2 * chunks)
        while len(self._dirs) - meta[lo.DIRS_USED] < lo.DIR_FIRST << (int(meta[lo.DIR_CLASS]) + 1):
            self._dirs = grown(self._dirs, 2 * len(self._dirs))
        self._tell()

    def _more_books(self) -> None:
        self._books = grown(self._books, 2 * len(self._books))
        slots = self._live_slots()
        self._index = zeros(2 * len(self._index), np.int32)
        self._touched_slots = grown(self._touched_slots, 2 * len(self._touched_slots))
        walk.reindex(self._meta, self._books, self._index, slots)
        self._tell()

    def _book_table(self) -> Array:
        return self._books.reshape(-1, lo.BOOK_WORDS)

    def _word(self, slot: int, at: int) -> int:
        return int(self._books[slot * lo.BOOK_WORDS + at])

    def _carried(self) -> tuple[Array, Array, Array]:
        """Records (rows of 7 words), ordinals and slots of the carry: views."""
        n = int(self._meta[lo.CARRY_RECORDS])
        return self._carry[: n * 7].reshape(-1, 7), self._carry_ordinals[:n], self._carry_slots[:n]

    def _live_slots(self) -> Array:
        return self._index[self._index > 0].astype(np.int64) - 1
