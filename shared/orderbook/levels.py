"""Aggregated books folded from LEVEL and TOUCHED rows: what a reader of `:out` keeps for thousands of instruments.

A side is one block of a pool, sorted with its best level at the END, so that work near the top moves little; a full
block moves to one of twice the size. Finding a level: from the top for 8 levels, then binary.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from shared.records import LEVEL, Rows
from shared.units import SIDE_ASK, SIDE_BID

U = np.uint64  # unsigned indices: no wrap-around checks
_WORDS = LEVEL.itemsize // 8
_KEY = 0xFFFF_FFFF_FFFF
_FIRST = 16  # levels in a side's first block
_MAX_BLOCK = 1 << 40
# meta: 0 books used, 1 pool used, 2+k: first free block of size _FIRST << k, or -1
_CLASSES = 40
# A book: key, then for each side offset, levels, capacity; then what its last TOUCHED row said.
_BOOK = 10
_FLAGS, _TS_EVENT, _TS_RECV = 7, 8, 9
_UNTOUCHED = -1  # flags of a book without a TOUCHED row

_RO = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_I8 = nb.int64[::1]


@nb.njit(nb.int64(nb.int64, _I8, _I8, _I8), cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _slot(key: Any, meta: Any, index: Any, books: Any) -> Any:
    """The slot of a book, made if it is new; -1 if there is no room for it."""
    mask = index.shape[0] - 1
    h = np.int64((U(key) * U(0x9E37_79B9_7F4A_7C15)) >> U(20)) & mask
    while index[U(h)] >= 0 and books[U(index[U(h)] * _BOOK)] != key:
        h = (h + 1) & mask
    slot = np.int64(index[U(h)])
    if slot < 0:
        slot = np.int64(meta[0])
        if (slot + 1) * _BOOK > books.shape[0]:
            return np.int64(-1)
        meta[0] += 1
        index[U(h)] = slot
        books[U(slot * _BOOK)] = key
        for k in range(1, _BOOK):
            books[U(slot * _BOOK + k)] = 0
        books[U(slot * _BOOK + _FLAGS)] = _UNTOUCHED
    return slot


@nb.njit(nb.int64(_RO, nb.int64, _I8, _I8, _I8, _I8), cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _touch(rows: Any, first: Any, meta: Any, index: Any, books: Any, fresh: Any) -> Any:
    """Take TOUCHED rows from number `first` on; as `_fold`. `fresh`: their number, then keys of books touched first."""
    n = rows.shape[0] // 4
    for i in range(first, n):
        head = rows[U(i * 4 + 3)]
        key = np.int64(head & U(_KEY))
        slot = _slot(key, meta, index, books)
        if slot < 0:
            return i
        at = slot * _BOOK
        if books[U(at + _FLAGS)] == _UNTOUCHED:
            fresh[0] += 1
            fresh[U(fresh[0])] = key
        books[U(at + _FLAGS)] = np.int64(head >> U(48)) & 0xFF
        books[U(at + _TS_EVENT)], books[U(at + _TS_RECV)] = (
            np.int64(rows[U(i * 4 + 1)]),
            np.int64(rows[U(i * 4 + 2)]),
        )
    return n


@nb.njit(nb.int64(_RO, nb.int64, _I8, _I8, _I8, _I8), cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fold(rows: Any, first: Any, meta: Any, index: Any, books: Any, pool: Any) -> Any:
    """Apply rows from number `first` on. Returns the number of the first row not applied: there is no room for it."""
    n = rows.shape[0] // 4
    last_key, slot = np.int64(-1), np.int64(0)
    for i in range(first, n):
        head = rows[U(i * 4)]
        key = np.int64(head & U(_KEY))
        side = np.int64(head >> U(48)) & 0xFF
        if side == SIDE_BID:
            flip, at = np.int64(0), np.int64(1)
        elif side == SIDE_ASK:
            flip, at = np.int64(-1), np.int64(4)
        else:
            continue
        size, count = np.int64(rows[U(i * 4 + 2)]), np.int64(rows[U(i * 4 + 3)] & U(0xFFFF_FFFF))
        if key != last_key:
            slot = _slot(key, meta, index, books)
            if slot < 0:
                return i
            last_key = key
        at += slot * _BOOK
        off, levels, room = books[U(at)], books[U(at + 1)], books[U(at + 2)]
        want = np.int64(rows[U(i * 4 + 1)]) ^ flip
        # pos: number of levels worse than `want`
        pos = levels
        low = max(np.int64(0), levels - 8)
        while pos > low and pool[U((off + pos - 1) * 3)] > want:
            pos -= 1
        if pos == low and low > 0 and pool[U((off + pos - 1) * 3)] > want:
            a, b = np.int64(0), pos
            while a < b:
                m = (a + b) >> 1
                if pool[U((off + m) * 3)] > want:
                    b = m
                else:
                    a = m + 1
            pos = a
        # now every level at or above pos is better than `want`; the one below is it, or worse
        if pos > 0 and pool[U((off + pos - 1) * 3)] == want:
            if count or size:
                pool[U((off + pos) * 3 - 2)], pool[U((off + pos) * 3 - 1)] = size, count
            else:
                for k in range((off + pos) * 3, (off + levels) * 3):
                    pool[U(k - 3)] = pool[U(k)]
                books[U(at + 1)] = levels - 1
            continue
        if count == 0 and size == 0:
            continue
        if levels == room:
            grown, k = _FIRST, 2
            while grown <= room:
                grown, k = grown << 1, k + 1
            to = meta[U(k)]
            if to >= 0:
                meta[U(k)] = pool[U(to * 3)]
            elif meta[1] + grown <= pool.shape[0] // 3:
                to = meta[1]
                meta[1] += grown
            else:
                return i
            for j in range(levels * 3):
                pool[U(to * 3 + j)] = pool[U(off * 3 + j)]
            if room:
                pool[U(off * 3)] = meta[U(k - 1)]
                meta[U(k - 1)] = off
            off = to
            books[U(at)], books[U(at + 2)] = off, grown
        for k in range((off + levels) * 3 - 1, (off + pos) * 3 - 1, -1):
            pool[U(k + 3)] = pool[U(k)]
        pool[U((off + pos) * 3)], pool[U((off + pos) * 3 + 1)], pool[U((off + pos) * 3 + 2)] = (
            want,
            size,
            count,
        )
        books[U(at + 1)] = levels + 1
    return n


class LevelBooks:
    """Levels of many books by (publisher_id, instrument_id) and side. Not thread-safe."""

    def __init__(self) -> None:
        self.clear()

    def clear(self, publisher_id: int | None = None, instrument_id: int | None = None) -> None:
        """Empty all books, or those of a publisher, an instrument or both."""
        if publisher_id is None and instrument_id is None:
            self._meta: NDArray[np.int64] = np.full(2 + _CLASSES, -1, np.int64)
            self._meta[:2] = 0
            self._index: NDArray[np.int64] = np.full(256, -1, np.int64)
            self._books: NDArray[np.int64] = np.zeros(64 * _BOOK, np.int64)
            self._pool: NDArray[np.int64] = np.empty(
                4096 * 3, np.int64
            )  # a level: price (~price of an ask), size, count
            self._slots: dict[tuple[int, int], int] = {}
            return
        if publisher_id is not None and instrument_id is not None:
            self._empty((publisher_id, instrument_id))
            return
        for key in self._slots:
            if publisher_id in (None, key[0]) and instrument_id in (None, key[1]):
                self._empty(key)

    def _empty(self, key: tuple[int, int]) -> None:
        slot = self._slots.get(key)
        if slot is not None:
            self._books[slot * _BOOK + 2] = self._books[slot * _BOOK + 5] = 0

    def load(self, rows: Rows) -> None:
        """All levels of the books in `rows` (`Engine.level_rows`), in place of what was there of them."""
        for key in set(zip(rows["publisher_id"].tolist(), rows["instrument_id"].tolist(), strict=True)):
            self._empty(key)
        self.fold(rows)

    def fold(self, rows: Rows) -> None:
        """Set the levels of `rows` in their order; size 0 and count 0: gone."""
        words = np.ascontiguousarray(rows).view(np.uint64)
        at, n = 0, len(rows)
        while True:
            at = _fold(words, at, self._meta, self._index, self._books, self._pool)
            if at == n:
                break
            self._grow()
        self._find_new()

    def touch(self, rows: Rows) -> list[tuple[int, int]]:
        """Take TOUCHED rows in their order; keys (publisher_id, instrument_id) of books that had none before."""
        words = np.ascontiguousarray(rows).view(np.uint64)
        fresh = np.zeros(len(rows) + 1, np.int64)
        at = 0
        while (at := _touch(words, at, self._meta, self._index, self._books, fresh)) < len(rows):
            self._grow()
        self._find_new()
        return [(key >> 32, key & 0xFFFF_FFFF) for key in fresh[1 : int(fresh[0]) + 1].tolist()]

    def touched(self, publisher_id: int, instrument_id: int) -> tuple[int, int, int]:
        """(ts_event, ts_recv, BOOK_* flags) of a book's last TOUCHED row; zeros for a book without one."""
        slot = self._slots.get((publisher_id, instrument_id))
        if slot is None:
            return 0, 0, 0
        flags, ts_event, ts_recv = self._books[slot * _BOOK + _FLAGS : slot * _BOOK + _TS_RECV + 1].tolist()
        return (ts_event, ts_recv, flags) if flags != _UNTOUCHED else (0, 0, 0)

    def _find_new(self) -> None:
        for slot in range(len(self._slots), int(self._meta[0])):
            key = int(self._books[slot * _BOOK])
            self._slots[key >> 32, key & 0xFFFF_FFFF] = slot

    def _grow(self) -> None:
        """Twice the room of what is full. The rare copy: 24 bytes a level."""
        used = int(self._meta[0])
        if (used + 1) * _BOOK > len(self._books):
            self._books = np.concatenate((self._books, np.zeros_like(self._books)))
            self._find_new()
            self._index = np.full(4 * len(self._books) // _BOOK, -1, np.int64)
            mask = len(self._index) - 1
            for slot, key in enumerate(self._books[: used * _BOOK : _BOOK].tolist()):
                h = (key * 0x9E37_79B9_7F4A_7C15 & 0xFFFF_FFFF_FFFF_FFFF) >> 20 & mask
                while self._index[h] >= 0:
                    h = (h + 1) & mask
                self._index[h] = slot
            return
        pool = np.empty(2 * len(self._pool), np.int64)
        pool[: len(self._pool)] = self._pool
        self._pool = pool

    def books(self) -> list[tuple[int, int]]:
        """Keys (publisher_id, instrument_id) of every book ever met, sorted."""
        return sorted(self._slots)

    def depth(self, publisher_id: int, instrument_id: int, side: int) -> int:
        """Number of levels of a side; 0 for an unknown book."""
        slot = self._slots.get((publisher_id, instrument_id))
        return 0 if slot is None else int(self._books[slot * _BOOK + (2 if side == SIDE_BID else 5)])

    def top(
        self, publisher_id: int, instrument_id: int, side: int, n: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(prices in 1e-9, sizes, order counts) of at most n levels, best first; copies; empty for an unknown book."""
        slot = self._slots.get((publisher_id, instrument_id))
        if slot is None:
            none = np.empty(0, np.int64)
            return none, none, none
        at = slot * _BOOK + (1 if side == SIDE_BID else 4)
        off, levels = int(self._books[at]), int(self._books[at + 1])
        first = off + (0 if n is None else max(0, levels - n))
        px, sz, ct = self._pool[first * 3 : (off + levels) * 3].reshape(-1, 3)[::-1].T.copy()
        return (px if side == SIDE_BID else ~px), sz, ct

    def side(
        self, publisher_id: int, instrument_id: int, side: int, n: int | None = None
    ) -> tuple[NDArray[np.int64], int, int]:
        """(pool, place, number) of at most n levels: from `place` in `pool`, price (~price of an ask), size and count
        of each, the best last. Good until the next change."""
        slot = self._slots.get((publisher_id, instrument_id))
        if slot is None:
            return self._pool, 0, 0
        at = slot * _BOOK + (1 if side == SIDE_BID else 4)
        off, levels = self._books.item(at), self._books.item(at + 1)
        n = levels if n is None or n > levels else n
        return self._pool, (off + levels - n) * 3, n
