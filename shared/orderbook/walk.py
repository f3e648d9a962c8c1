"""The reading side of the kernel's arrays: levels, orders, places, whole states. Compiled at their first call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import units
from shared.orderbook import layout as lo
from shared.orderbook.compiled import reader
from shared.orderbook.intrinsics import fold
from shared.orderbook.pools import LOW_32, MIX, tag_of

U: Any = np.uint64
I: Any = np.int64  # noqa: E741


@reader
def side_levels(
    books: Any, levels: Any, levels4: Any, chunks: Any, chunk_n: Any, dirs: Any, slot: Any, side: Any,
    limit: Any, out: Any, at: Any,
) -> Any:  # fmt: skip
    """Put the levels of one side, best first, at most `limit`, as LEVEL rows from row `at` on; returns how many."""
    b = slot * lo.BOOK_WORDS
    sb = b + lo.SIDE + 4 * side
    letter = I(units.SIDE_ASK) if side else I(units.SIDE_BID)
    head = books[b + lo.HEAD] | letter << 48
    n = I(0)
    nchunks = books[sb + lo.CHUNKS]
    for place in range(nchunks - 1, -1, -1):
        if place == nchunks - 1:
            chunk, top = books[sb + lo.CHUNK], books[sb + lo.LEVELS_IN]
        else:
            chunk = I(dirs[(books[sb + lo.DIR] >> 8) + place])
            top = I(chunk_n[chunk])
        for j in range(top - 1, -1, -1):
            if n == limit:
                return n
            lv = chunks[(chunk * lo.CAP + j) * lo.ENTRY_WORDS + 1]
            row = (at + n) * 4
            out[row] = head
            out[row + 1] = chunks[(chunk * lo.CAP + j) * lo.ENTRY_WORDS] ^ -side
            out[row + 2] = levels[lv * lo.LEVEL_WORDS + 1]
            out[row + 3] = I(levels4[lv * 8 + lo.L_COUNT])
            n += 1
    return n


@reader
def queue(orders: Any, orders4: Any, levels4: Any, lv: Any, price: Any, side: Any, out: Any, at: Any) -> Any:
    """Put the orders of one level in queue order as ORDER rows from row `at` on; returns how many."""
    n = I(0)
    letter = I(units.SIDE_ASK) if side else I(units.SIDE_BID)
    cur = I(levels4[lv * 8 + lo.L_HEAD])
    while cur:
        row = (at + n) * 4
        out[row] = orders[cur * lo.ORDER_WORDS]
        out[row + 1] = orders[cur * lo.ORDER_WORDS + 1]
        out[row + 2] = price
        aggregate = (I(orders4[cur * 8 + lo.O_LEVEL]) >> 1) & 1
        out[row + 3] = I(orders4[cur * 8 + lo.O_SIZE]) | letter << 32 | aggregate << 40
        n += 1
        cur = I(orders4[cur * 8 + lo.O_NEXT])
    return n


@reader
def find_order(meta: Any, table: Any, orders: Any, slot: Any, order_id: Any) -> Any:
    """The index of an order, 0 if there is none (or an executed one: its O_LEVEL says so)."""
    tag = tag_of(U(meta[lo.SEED]), U(meta[lo.SEED2]), slot, order_id)
    h = tag >> meta[lo.HASH_SHIFT]
    while table[h]:
        i = table[h] & LOW_32
        if (table[h] >> 32) & LOW_32 == tag and orders[i * lo.ORDER_WORDS] == order_id:
            return i
        h = (h + 1) & (table.shape[0] - 1)
    return I(0)


@reader
def ahead(orders4: Any, order: Any, out: Any) -> None:
    """out[0], out[1] = orders and size before `order` in its queue."""
    out[0] = out[1] = 0
    cur = I(orders4[order * 8 + lo.O_PREV])
    while cur:
        out[0] += 1
        out[1] += I(orders4[cur * 8 + lo.O_SIZE])
        cur = I(orders4[cur * 8 + lo.O_PREV])


def shift_of(table: NDArray[np.int64]) -> int:
    """How far a tag is shifted to its first place in a table of this length, a power of two."""
    return 33 - len(table).bit_length()


@reader
def _put_in(table: Any, shift: Any, entry: Any) -> None:
    h = ((entry >> 32) & LOW_32) >> shift
    while table[h]:
        h = (h + 1) & (table.shape[0] - 1)
    table[h] = entry


@reader
def rehash(old: Any, new: Any, shift: Any) -> None:
    """Put all entries of the order table into a larger, empty one."""
    for i in range(old.shape[0]):
        if old[i]:
            _put_in(new, shift, old[i])


@reader
def reindex(meta: Any, books: Any, index: Any, slots: Any) -> None:
    """Fill the empty table of books with `slots`."""
    mask = index.shape[0] - 1
    for i in range(slots.shape[0]):
        slot = slots[i]
        h = I(fold(U(books[slot * lo.BOOK_WORDS + lo.KEY]) ^ U(meta[lo.SEED]), U(meta[lo.SEED2]))) & mask
        while index[h]:
            h = (h + 1) & mask
        index[h] = slot + 1


@reader
def find_book(meta: Any, books: Any, index: Any, key: Any) -> Any:
    """The slot of a book key, −1 if there is none."""
    mask = index.shape[0] - 1
    h = I(fold(U(key) ^ U(meta[lo.SEED]), U(meta[lo.SEED2]))) & mask
    while index[h]:
        slot = I(index[h]) - 1
        if books[slot * lo.BOOK_WORDS + lo.KEY] == key:
            return slot
        h = (h + 1) & mask
    return I(-1)


@reader
def find_level(books: Any, chunks: Any, chunk_n: Any, dirs: Any, slot: Any, side: Any, key: Any) -> Any:
    """The level of a key, 0 if there is none."""
    sb = slot * lo.BOOK_WORDS + lo.SIDE + 4 * side
    nchunks = books[sb + lo.CHUNKS]
    for place in range(nchunks - 1, -1, -1):
        if place == nchunks - 1:
            chunk, top = books[sb + lo.CHUNK], books[sb + lo.LEVELS_IN]
        else:
            chunk = I(dirs[(books[sb + lo.DIR] >> 8) + place])
            top = I(chunk_n[chunk])
        base = chunk * lo.CAP
        if top == 0 or chunks[base * 2] > key:
            continue
        low, high = I(0), top
        while low < high:
            middle = (low + high) >> 1
            if chunks[(base + middle) * 2] < key:
                low = middle + 1
            else:
                high = middle
        if low < top and chunks[(base + low) * 2] == key:
            return chunks[(base + low) * 2 + 1]
        return I(0)
    return I(0)


@reader
def mark_dirty(meta: Any, dirty: Any, levels4: Any, graves: Any, n: Any) -> None:
    """After the pending part of the dirty list was put in order: point its levels and graves back at it."""
    mask = graves.shape[0] - 1
    seed, seed2 = U(meta[lo.SEED]), U(meta[lo.SEED2])
    for i in range(n):
        lv = dirty[i * 4 + 2]
        dirty[i * 4 + 3] &= ~0xFFFF_FFFF
        if dirty[i * 4 + 1] < 0:
            continue
        if lv:
            levels4[lv * 8 + lo.L_DIRTY] = i + 1
            continue
        x = fold(U(dirty[i * 4]) ^ seed, seed2 + U(dirty[i * 4 + 1]) * MIX)
        h = I(x) & mask
        while graves[h]:
            h = (h + 1) & mask
        graves[h] = i + 1
        dirty[i * 4 + 3] |= h + 1
        meta[lo.GRAVES] += 1
    meta[lo.DIRTY] = n


@reader
def add_executed(meta: Any, books: Any, orders: Any, orders4: Any, table: Any, ids: Any, slot: Any) -> None:
    """Put ids the uncrossing has executed into a restored book. There is room for them."""
    b = slot * lo.BOOK_WORDS
    for i in range(ids.shape[0]):
        cur = meta[lo.ORDERS_USED]
        meta[lo.ORDERS_USED] += 1
        orders[cur * lo.ORDER_WORDS] = ids[i]
        orders4[cur * 8 + lo.O_LEVEL] = lo.O_EXECUTED
        behind = books[b + lo.EXECUTED]
        orders4[cur * 8 + lo.O_PREV] = 0
        orders4[cur * 8 + lo.O_NEXT] = behind
        if behind:
            orders4[behind * 8 + lo.O_PREV] = cur
        books[b + lo.EXECUTED] = cur
        books[b + lo.EXECUTED_COUNT] += 1
        meta[lo.EXECUTED_ORDERS] += 1
        tag = tag_of(U(meta[lo.SEED]), U(meta[lo.SEED2]), slot, ids[i])
        _put_in(table, meta[lo.HASH_SHIFT], cur | tag << 32)


@reader
def executed_ids(books: Any, orders: Any, orders4: Any, slot: Any, out: Any) -> Any:
    """The ids of a book's executed orders, in no order; returns how many."""
    n = I(0)
    cur = books[slot * lo.BOOK_WORDS + lo.EXECUTED]
    while cur:
        out[n] = orders[cur * lo.ORDER_WORDS]
        n += 1
        cur = I(orders4[cur * 8 + lo.O_NEXT])
    return n


@reader
def freeze(
    orders: Any, orders4: Any, levels4: Any, chunks: Any, chunk_n: Any, dirs: Any, books: Any, slots: Any,
    out_levels: Any, out_orders: Any,
) -> Any:  # fmt: skip
    """Levels (price, orders) and orders (id, ts_event, size | aggregate << 32) of books in canonical order."""
    nl = no = I(0)
    for i in range(slots.shape[0]):
        for side in range(2):
            sb = slots[i] * lo.BOOK_WORDS + lo.SIDE + 4 * side
            nchunks = books[sb + lo.CHUNKS]
            for place in range(nchunks - 1, -1, -1):
                if place == nchunks - 1:
                    chunk, top = books[sb + lo.CHUNK], books[sb + lo.LEVELS_IN]
                else:
                    chunk = I(dirs[(books[sb + lo.DIR] >> 8) + place])
                    top = I(chunk_n[chunk])
                for j in range(top - 1, -1, -1):
                    lv = chunks[(chunk * lo.CAP + j) * 2 + 1]
                    out_levels[nl * 2] = chunks[(chunk * lo.CAP + j) * 2] ^ -side
                    out_levels[nl * 2 + 1] = I(levels4[lv * 8 + lo.L_COUNT])
                    nl += 1
                    cur = I(levels4[lv * 8 + lo.L_HEAD])
                    while cur:
                        out_orders[no * 3] = orders[cur * lo.ORDER_WORDS]
                        out_orders[no * 3 + 1] = orders[cur * lo.ORDER_WORDS + 1]
                        aggregate = (I(orders4[cur * 8 + lo.O_LEVEL]) >> 1) & 1
                        out_orders[no * 3 + 2] = I(orders4[cur * 8 + lo.O_SIZE]) | aggregate << 32
                        no += 1
                        cur = I(orders4[cur * 8 + lo.O_NEXT])
    return nl
