"""The kernel's memory by address, and what all its parts do with orders, the order table and the list of levels.

`At` is passed by value to functions of numbers (intrinsics.py says why). `i` is the number of an order, `lv` of a
level; `order`, `level`, `book`, `side` are their addresses. Offsets are in layout.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shared.orderbook import layout as lo
from shared.orderbook.intrinsics import apart, fold, get, get4, inline, put, put4

U: Any = np.uint64  # as Any: casts, not types
I: Any = np.int64  # noqa: E741
MIX = U(0xD6E8_FEB8_6659_FD93)
SPREAD = U(0x9E37_79B1)  # 2^32 / golden ratio, odd
LOW_32 = 0xFFFF_FFFF

# Bits of `mode`.
RAW, UNCROSS, EXECUTE, POLICY_BITS = 0, 1, 2, 3
EVERYTHING, WITH_EFFECTS = 4, 8


class At(NamedTuple):
    meta: int
    books: int
    table: int
    orders: int
    fills: int
    levels: int
    chunks: int
    chunk_n: int
    dirs: int
    dirty: int
    graves: int
    hash_mask: int
    hash_shift: int
    grave_mask: int
    seed: Any
    seed2: Any
    mode: int


@inline
def addresses(meta: Any, mode: Any) -> Any:
    return At(
        meta, get(meta, lo.AT_BOOKS), get(meta, lo.AT_TABLE), get(meta, lo.AT_ORDERS), get(meta, lo.AT_FILLS),
        get(meta, lo.AT_LEVELS), get(meta, lo.AT_CHUNKS), get(meta, lo.AT_CHUNK_N), get(meta, lo.AT_DIRS),
        get(meta, lo.AT_DIRTY), get(meta, lo.AT_GRAVES), get(meta, lo.TABLE_CAP) - 1, get(meta, lo.HASH_SHIFT),
        get(meta, lo.GRAVE_CAP) - 1, U(get(meta, lo.SEED)), U(get(meta, lo.SEED2)), mode,
    )  # fmt: skip


@inline
def add_to(address: Any, word: Any, n: Any) -> Any:
    put(address, word, get(address, word) + n)


@inline
def order_at(at: Any, i: Any) -> Any:
    return at.orders + i * (lo.ORDER_WORDS * 8)


@inline
def level_at(at: Any, lv: Any) -> Any:
    return at.levels + lv * (lo.LEVEL_WORDS * 8)


@inline
def side_at(book: Any, which: Any) -> Any:
    return book + (lo.SIDE + lo.SIDE_WORDS * which) * 8


@inline
def count(book: Any, why: Any) -> Any:
    """One more anomaly of a kind; returns the kind."""
    add_to(book, lo.COUNTS + why, 1)
    return why


@inline
def list_touched(at: Any, book: Any, slot: Any) -> Any:
    """The book gets a TOUCHED row in this batch."""
    batch = get(at.meta, lo.BATCH)
    if get(book, lo.TOUCHED) != batch:
        put(book, lo.TOUCHED, batch)
        n = get(at.meta, lo.TOUCHED_BOOKS)
        put4(get(at.meta, lo.AT_TOUCHED), n, slot)
        put(at.meta, lo.TOUCHED_BOOKS, n + 1)


# --- the order table: open addressing, linear probing, backward-shift deletion -------------------------------


@inline
def tag_of(seed: Any, seed2: Any, slot: Any, order_id: Any) -> Any:
    """32 bits of an id of a book; those of the same id in other books are others, since the factor is odd.

    Nobody can choose ids whose tags are alike. Who could choose slots: it takes ten million books for a search of 5 µs.
    """
    return I(fold(U(order_id) ^ seed, seed2) + U(slot) * SPREAD) & LOW_32


@inline
def find_order(at: Any, slot: Any, order_id: Any) -> Any:
    """(order, its place in the table, its tag); order 0: there is none, the place is where it would go."""
    tag = tag_of(at.seed, at.seed2, slot, order_id)
    h = tag >> at.hash_shift
    while True:
        place = at.table + h * 8
        i = get4(place, 0)
        if i == 0 or (get4(place, 1) == tag and get(order_at(at, i), 0) == order_id):
            return i, h, tag
        h = (h + 1) & at.hash_mask


@inline
def forget(at: Any, h: Any) -> Any:
    """Empty place `h`; what was pushed past it moves up."""
    j = h
    while True:
        j = (j + 1) & at.hash_mask
        found = get(at.table, j)
        if found == 0:
            break
        home = get4(at.table + j * 8, 1) >> at.hash_shift
        if ((j - home) & at.hash_mask) >= ((j - h) & at.hash_mask):
            put(at.table, h, found)
            h = j
    put(at.table, h, 0)


@inline
def remember(at: Any, h: Any, tag: Any, i: Any) -> Any:
    put(at.table, h, i | tag << 32)


@apart
def forget_order(at: Any, slot: Any, i: Any) -> Any:
    """The order leaves the table, wherever it is in it."""
    h = tag_of(at.seed, at.seed2, slot, get(order_at(at, i), 0)) >> at.hash_shift
    while get4(at.table + h * 8, 0) != i:
        h = (h + 1) & at.hash_mask
    forget(at, h)


@inline
def new_order(at: Any) -> Any:
    i = get(at.meta, lo.ORDER_FREE)
    if i:
        put(at.meta, lo.ORDER_FREE, get4(order_at(at, i), lo.O_NEXT))
        add_to(at.meta, lo.ORDERS_FREE, -1)
    else:
        i = get(at.meta, lo.ORDERS_USED)
        put(at.meta, lo.ORDERS_USED, i + 1)
    return i


@inline
def free_order(at: Any, i: Any) -> Any:
    put4(order_at(at, i), lo.O_NEXT, get(at.meta, lo.ORDER_FREE))
    put(at.meta, lo.ORDER_FREE, i)
    add_to(at.meta, lo.ORDERS_FREE, 1)


# --- executed orders of policy `execute`: out of the book, still known by id ---------------------------------


@apart
def list_executed(at: Any, book: Any, i: Any) -> Any:
    order, other = order_at(at, i), get(book, lo.EXECUTED)
    put4(order, lo.O_LEVEL, lo.O_EXECUTED)
    put4(order, lo.O_PREV, 0)
    put4(order, lo.O_NEXT, other)
    if other:
        put4(order_at(at, other), lo.O_PREV, i)
    put(book, lo.EXECUTED, i)
    add_to(book, lo.EXECUTED_COUNT, 1)
    add_to(at.meta, lo.EXECUTED_ORDERS, 1)


@apart
def unlist_executed(at: Any, book: Any, i: Any) -> Any:
    order = order_at(at, i)
    ahead, behind = get4(order, lo.O_PREV), get4(order, lo.O_NEXT)
    if ahead:
        put4(order_at(at, ahead), lo.O_NEXT, behind)
    else:
        put(book, lo.EXECUTED, behind)
    if behind:
        put4(order_at(at, behind), lo.O_PREV, ahead)
    add_to(book, lo.EXECUTED_COUNT, -1)
    add_to(at.meta, lo.EXECUTED_ORDERS, -1)


@apart
def clear_executed(at: Any, book: Any, slot: Any) -> Any:
    i = get(book, lo.EXECUTED)
    while i:
        behind = get4(order_at(at, i), lo.O_NEXT)
        forget_order(at, slot, i)
        free_order(at, i)
        add_to(at.meta, lo.EXECUTED_ORDERS, -1)
        i = behind
    put(book, lo.EXECUTED, 0)
    put(book, lo.EXECUTED_COUNT, 0)


# --- the list of levels whose rows a batch makes -------------------------------------------------------------


@inline
def touch(at: Any, owner: Any, lv: Any) -> Any:
    """Put a level on the list; owner = slot << 1 | side."""
    level = level_at(at, lv)
    if at.mode & EVERYTHING and get4(level, lo.L_DIRTY) == 0:
        n = get(at.meta, lo.DIRTY)
        row = at.dirty + n * (lo.DIRTY_WORDS * 8)
        put(row, 0, get(level, 0))
        put(row, 1, owner)
        put(row, 2, lv)
        put(row, 3, 0)
        put(at.meta, lo.DIRTY, n + 1)
        put4(level, lo.L_DIRTY, n + 1)


@inline
def grave_of(at: Any, owner: Any, key: Any) -> Any:
    return I(fold(U(key) ^ at.seed, at.seed2 + U(owner) * MIX)) & at.grave_mask


@inline
def bury(at: Any, owner: Any, lv: Any) -> Any:
    """A listed level goes: its row will say 0. Should its price come back in this batch, a grave leads to that row."""
    level = level_at(at, lv)
    place = get4(level, lo.L_DIRTY)
    if place:
        row = at.dirty + (place - 1) * (lo.DIRTY_WORDS * 8)
        put(row, 2, 0)
        if get4(row, 6) == 0:
            h = grave_of(at, owner, get(level, 0))
            while get4(at.graves, h):
                h = (h + 1) & at.grave_mask
            put4(at.graves, h, place)
            put4(row, 6, h + 1)
            add_to(at.meta, lo.GRAVES, 1)


@inline
def exhume(at: Any, owner: Any, lv: Any) -> Any:
    """A new level takes the row that one of its price had in this batch."""
    if get(at.meta, lo.GRAVES):
        level = level_at(at, lv)
        key = get(level, 0)
        h = grave_of(at, owner, key)
        place = get4(at.graves, h)
        while place:
            row = at.dirty + (place - 1) * (lo.DIRTY_WORDS * 8)
            if get(row, 0) == key and get(row, 1) == owner:
                put(row, 2, lv)
                put4(level, lo.L_DIRTY, place)
                break
            h = (h + 1) & at.grave_mask
            place = get4(at.graves, h)
