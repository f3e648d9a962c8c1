"""The sorted levels of a side, in chunks under a directory, best level last; and the queues of their orders.

A key is a price, or ~price of an ask: the best level of either side has the largest. Most work is near the top of the
top chunk, so a place is first looked for among the best eight levels, without a branch a level.
"""

from __future__ import annotations

from typing import Any

from shared.orderbook import layout as lo
from shared.orderbook.intrinsics import apart, get, get4, inline, move, put, put4
from shared.orderbook.pools import (
    I,
    add_to,
    bury,
    exhume,
    forget_order,
    free_order,
    level_at,
    list_executed,
    order_at,
    side_at,
    touch,
)

ENTRY = lo.ENTRY_WORDS * 8  # bytes
HALF = lo.CAP // 2


@inline
def chunk_at(at: Any, chunk: Any) -> Any:
    return at.chunks + chunk * (lo.CAP * ENTRY)


@inline
def directory_at(at: Any, side: Any) -> Any:
    return at.dirs + (get(side, lo.DIR) >> 8) * 4


@inline
def stirred(book: Any, which: Any, key: Any, state: Any) -> Any:
    """`state` of a book one of whose levels changes: the best may be another now, and so may the overlay."""
    best = book + (lo.BBO + 3 * which) * 8
    state |= (I(key >= (get(best, 0) ^ -which)) | I(get(best, 2) == 0)) << (lo.BEST_BIT + which)
    if state & lo.MET and key >= get(book, lo.BOUND + which):
        state |= lo.MOVED
    return state


# --- finding -------------------------------------------------------------------------------------------------


@inline
def _better(end: Any, top: Any, k: Any, key: Any) -> Any:
    """1 if the k-th best of `top` levels is better than `key`."""
    return I(get(end, -2 * k) > key) & I(top >= k)


@inline
def near_top(end: Any, top: Any, key: Any) -> Any:
    """How many of the best eight levels of a chunk of `top` that ends at an address are better than `key`."""
    return (
        _better(end, top, 1, key) + _better(end, top, 2, key) + _better(end, top, 3, key) + _better(end, top, 4, key)
        + _better(end, top, 5, key) + _better(end, top, 6, key) + _better(end, top, 7, key) + _better(end, top, 8, key)
    )  # fmt: skip


@inline
def position(base: Any, top: Any, key: Any, hint: Any) -> Any:
    """Number of levels of a chunk that are not better than `key`; `hint`: a guess of how many are, or −1."""
    if top == 0:
        return I(0)
    n = top - hint
    if hint >= 0 and n > 0 and get(base, 2 * n - 2) <= key and (hint == 0 or get(base, 2 * n) > key):
        return n
    better = near_top(base + top * ENTRY, top, key)
    n = top - better
    if better < 8 or n == 0:
        return n
    low = I(0)
    while n > 1:
        half = n >> 1
        low = low + half if get(base, 2 * (low + half - 1)) <= key else low
        n -= half
    return low + I(get(base, 2 * low) <= key)


@apart
def lower_chunk(at: Any, side: Any, key: Any) -> Any:
    """Place in the directory of the last chunk that begins at or below `key`; the first if none does."""
    directory, lower, upper = directory_at(at, side), I(0), get(side, lo.CHUNKS) - 1
    while upper - lower > 1:
        middle = (lower + upper) >> 1
        if get(chunk_at(at, get4(directory, middle)), 0) <= key:
            lower = middle
        else:
            upper = middle
    return lower


@inline
def find(at: Any, side: Any, key: Any) -> Any:
    """(chunk, its place in the directory, levels in it, how many of them are not better than `key`)."""
    chunk, top, place = get(side, lo.CHUNK), get(side, lo.LEVELS_IN), get(side, lo.CHUNKS) - 1
    if place > 0 and key < get(chunk_at(at, chunk), 0):
        place = lower_chunk(at, side, key)
        chunk = get4(directory_at(at, side), place)
        top = get4(at.chunk_n, chunk)
    return chunk, place, top, position(chunk_at(at, chunk), top, key, get(at.meta, lo.HINT))


@inline
def level_in(base: Any, position: Any, key: Any) -> Any:
    """The level at a position that `find` gave, 0 if it has another key."""
    entry = base + (position - 1) * ENTRY
    return get(entry, 1) if position > 0 and get(entry, 0) == key else I(0)


# --- levels come and go --------------------------------------------------------------------------------------


@inline
def _new_chunk(at: Any) -> Any:
    chunk = get(at.meta, lo.CHUNK_FREE)
    if chunk:
        put(at.meta, lo.CHUNK_FREE, get4(at.chunk_n, chunk))
        add_to(at.meta, lo.CHUNKS_FREE, -1)
    else:
        chunk = get(at.meta, lo.CHUNKS_USED)
        put(at.meta, lo.CHUNKS_USED, chunk + 1)
    return chunk


@inline
def _free_chunk(at: Any, chunk: Any) -> Any:
    put4(at.chunk_n, chunk, get(at.meta, lo.CHUNK_FREE))
    put(at.meta, lo.CHUNK_FREE, chunk)
    add_to(at.meta, lo.CHUNKS_FREE, 1)


@apart
def _directory_for_one_more(at: Any, side: Any) -> Any:
    """A side's directory, with room for another chunk; a full one moves to a block of twice the size."""
    nchunks, directory = get(side, lo.CHUNKS), get(side, lo.DIR) >> 8
    size = (get(side, lo.DIR) & 0xFF) - 1  # class: DIR_FIRST << size chunks
    if size < 0 or nchunks == lo.DIR_FIRST << size:
        size += 1
        fresh = get(at.meta, lo.DIR_FREE + size) - 1
        if fresh >= 0:
            put(at.meta, lo.DIR_FREE + size, get4(at.dirs, fresh))
        else:
            fresh = get(at.meta, lo.DIRS_USED)
            add_to(at.meta, lo.DIRS_USED, lo.DIR_FIRST << size)
            put(at.meta, lo.DIR_CLASS, max(get(at.meta, lo.DIR_CLASS), size))
            put(at.meta, lo.ROOM, 0)
        if size == 0:
            put4(at.dirs, fresh, get(side, lo.CHUNK))
        else:
            move(at.dirs + fresh * 4, at.dirs + directory * 4, nchunks * 4)
            put4(at.dirs, directory, get(at.meta, lo.DIR_FREE + size - 1))
            put(at.meta, lo.DIR_FREE + size - 1, directory + 1)
        directory = fresh
        put(side, lo.DIR, directory << 8 | (size + 1))
    return at.dirs + directory * 4


@apart
def _split(at: Any, side: Any, chunk: Any, place: Any) -> Any:
    """A full chunk gives its upper half to a new one behind it."""
    half = _new_chunk(at)
    move(chunk_at(at, half), chunk_at(at, chunk) + HALF * ENTRY, HALF * ENTRY)
    directory, nchunks = _directory_for_one_more(at, side), get(side, lo.CHUNKS)
    move(directory + (place + 2) * 4, directory + (place + 1) * 4, (nchunks - place - 1) * 4)
    put4(directory, place + 1, half)
    put4(at.chunk_n, chunk, HALF)
    put4(at.chunk_n, half, HALF)
    if place == nchunks - 1:
        put(side, lo.CHUNK, half)
        put(side, lo.LEVELS_IN, HALF)
    put(side, lo.CHUNKS, nchunks + 1)
    return half


@apart
def _join(at: Any, side: Any, place: Any) -> Any:
    """A nearly empty chunk joins a neighbour if both fit into half of one. None stays empty: `clear` relies on it."""
    directory, nchunks = directory_at(at, side), get(side, lo.CHUNKS)
    put4(at.chunk_n, get(side, lo.CHUNK), get(side, lo.LEVELS_IN))
    left = place - 1 if place else 0
    into, source = get4(directory, left), get4(directory, left + 1)
    a, b = get4(at.chunk_n, into), get4(at.chunk_n, source)
    if a + b <= HALF or a == 0 or b == 0:
        move(chunk_at(at, into) + a * ENTRY, chunk_at(at, source), b * ENTRY)
        put4(at.chunk_n, into, a + b)
        _free_chunk(at, source)
        move(directory + (left + 1) * 4, directory + (left + 2) * 4, (nchunks - left - 2) * 4)
        put(side, lo.CHUNKS, nchunks - 1)
        chunk = get4(directory, nchunks - 2)
        put(side, lo.CHUNK, chunk)
        put(side, lo.LEVELS_IN, get4(at.chunk_n, chunk))


@inline
def _set_count(at: Any, side: Any, chunk: Any, place: Any, n: Any) -> Any:
    if place == get(side, lo.CHUNKS) - 1:
        put(side, lo.LEVELS_IN, n)
    else:
        put4(at.chunk_n, chunk, n)


@inline
def new_level(
    at: Any, book: Any, owner: Any, key: Any, chunk: Any, place: Any, top: Any, position: Any
) -> Any:
    """An empty level at a place that `find` gave."""
    which = owner & 1
    side = side_at(book, which)
    lv = get(at.meta, lo.LEVEL_FREE)
    if lv:
        put(at.meta, lo.LEVEL_FREE, get4(level_at(at, lv), lo.L_HEAD))
        add_to(at.meta, lo.LEVELS_FREE, -1)
    else:
        lv = get(at.meta, lo.LEVELS_USED)
        put(at.meta, lo.LEVELS_USED, lv + 1)
    level = level_at(at, lv)
    put(level, 0, key)
    put(level, 1, 0)
    put(level, 2, 0)  # count, head
    put(level, 3, 0)  # tail, place in the list
    add_to(book, lo.LEVELS + which, 1)
    exhume(at, owner, lv)
    if place < 0:
        chunk, place = _new_chunk(at), I(0)
        put(side, lo.CHUNK, chunk)
        put(side, lo.CHUNKS, 1)
    elif top == lo.CAP:
        half = _split(at, side, chunk, place)
        top = I(HALF)
        if position > HALF:
            chunk, place, position = half, place + 1, position - HALF
    entry = chunk_at(at, chunk) + position * ENTRY
    move(entry + ENTRY, entry, (top - position) * ENTRY)
    put(entry, 0, key)
    put(entry, 1, lv)
    _set_count(at, side, chunk, place, top + 1)
    return lv


@inline
def _free_level(at: Any, book: Any, owner: Any, lv: Any) -> Any:
    bury(at, owner, lv)
    put4(level_at(at, lv), lo.L_HEAD, get(at.meta, lo.LEVEL_FREE))
    put(at.meta, lo.LEVEL_FREE, lv)
    add_to(at.meta, lo.LEVELS_FREE, 1)
    add_to(book, lo.LEVELS + (owner & 1), -1)


@inline
def drop_level(at: Any, book: Any, owner: Any, lv: Any) -> Any:
    """An empty level goes."""
    side = side_at(book, owner & 1)
    chunk, place, top, position = find(at, side, get(level_at(at, lv), 0))
    _free_level(at, book, owner, lv)
    entry = chunk_at(at, chunk) + (position - 1) * ENTRY
    move(entry, entry + ENTRY, (top - position) * ENTRY)
    _set_count(at, side, chunk, place, top - 1)
    if top <= lo.CAP // 4 and get(side, lo.CHUNKS) > 1:
        _join(at, side, place)


# --- queues --------------------------------------------------------------------------------------------------


@inline
def append(
    at: Any, book: Any, owner: Any, key: Any, i: Any, order_id: Any, ts_event: Any, size: Any, aggregate: Any,
    state: Any,
) -> Any:  # fmt: skip
    """Put order `i` at the back of the queue of a key, whose level may be new; returns the book's state."""
    which = owner & 1
    state = stirred(book, which, key, state)
    chunk, place, top, where = find(at, side_at(book, which), key)
    lv = level_in(chunk_at(at, chunk), where, key)
    if lv == 0:
        lv = new_level(at, book, owner, key, chunk, place, top, where)
    touch(at, owner, lv)
    level, order = level_at(at, lv), order_at(at, i)
    ahead = get4(level, lo.L_TAIL)
    put(order, 0, order_id)
    put(order, 1, ts_event)
    put(order, 2, size | (lv << 2 | aggregate << 1 | which) << 32)
    put(order, 3, ahead)
    put4(level, lo.L_TAIL, i)
    put4(order_at(at, ahead) + lo.O_NEXT * 4 if ahead else level + lo.L_HEAD * 4, 0, i)
    add_to(level, 1, size)
    put4(level, lo.L_COUNT, get4(level, lo.L_COUNT) + 1)
    return state


@inline
def resize(at: Any, book: Any, slot: Any, i: Any, size: Any, state: Any) -> Any:
    """Make an order smaller where it stands; returns the book's state."""
    order = order_at(at, i)
    where = get4(order, lo.O_LEVEL)
    lv, which = where >> 2, where & 1
    level = level_at(at, lv)
    state = stirred(book, which, get(level, 0), state)
    touch(at, slot << 1 | which, lv)
    add_to(level, 1, size - get4(order, lo.O_SIZE))
    put4(order, lo.O_SIZE, size)
    return state


@inline
def unlink(at: Any, book: Any, slot: Any, i: Any, state: Any) -> Any:
    """Take an order out of its queue, and its level out of the side if it was the last; returns the book's state."""
    order = order_at(at, i)
    where = get4(order, lo.O_LEVEL)
    ahead, behind = get4(order, lo.O_PREV), get4(order, lo.O_NEXT)
    lv, which = where >> 2, where & 1
    level = level_at(at, lv)
    put4(order_at(at, ahead) + lo.O_NEXT * 4 if ahead else level + lo.L_HEAD * 4, 0, behind)
    put4(order_at(at, behind) + lo.O_PREV * 4 if behind else level + lo.L_TAIL * 4, 0, ahead)
    state = stirred(book, which, get(level, 0), state)
    if state & lo.FILLED:
        put(at.fills, i, 0)
    touch(at, slot << 1 | which, lv)
    add_to(level, 1, -get4(order, lo.O_SIZE))
    left = get4(level, lo.L_COUNT) - 1
    put4(level, lo.L_COUNT, left)
    if left == 0:
        drop_level(at, book, slot << 1 | which, lv)
    return state


# --- many orders at once -------------------------------------------------------------------------------------


@apart
def empty_level(at: Any, book: Any, owner: Any, lv: Any, quota: Any, execute: Any, state: Any) -> Any:
    """Take `quota` out of a level from the front of its queue (a huge one: all); returns what is left of the quota.

    With `execute` orders taken out whole are kept as executed ones. The level itself stays, empty or not.
    """
    level = level_at(at, lv)
    touch(at, owner, lv)
    i = get4(level, lo.L_HEAD)
    while i and quota:
        order = order_at(at, i)
        size, behind = get4(order, lo.O_SIZE), get4(order, lo.O_NEXT)
        if size > quota:
            put4(order, lo.O_SIZE, size - quota)
            add_to(level, 1, -quota)
            quota = I(0)
            break
        quota -= size
        if state & lo.FILLED:
            put(at.fills, i, 0)
        add_to(level, 1, -size)
        put4(level, lo.L_COUNT, get4(level, lo.L_COUNT) - 1)
        aggregate = get4(order, lo.O_LEVEL) & 2
        if execute and not aggregate:
            list_executed(at, book, i)
        else:
            if not aggregate:
                forget_order(at, owner >> 1, i)
            free_order(at, i)
        i = behind
    put4(level, lo.L_HEAD, i)
    if i:
        put4(order_at(at, i), lo.O_PREV, 0)
    else:
        put4(level, lo.L_TAIL, 0)
    return quota


ALL = 1 << 62  # more than 2^30 orders of 2^32 − 1


@apart
def take(at: Any, book: Any, owner: Any, quota: Any, execute: Any, state: Any) -> Any:
    """Take `quota` out of a side, best levels first (ALL: clear it)."""
    side = side_at(book, owner & 1)
    top = get(side, lo.LEVELS_IN)
    while top and quota:
        chunk = get(side, lo.CHUNK)
        lv = get(chunk_at(at, chunk), 2 * top - 1)
        quota = empty_level(at, book, owner, lv, quota, execute, state)
        if get4(level_at(at, lv), lo.L_HEAD):
            break
        _free_level(at, book, owner, lv)
        top -= 1
        if top == 0 and get(side, lo.CHUNKS) > 1:
            _free_chunk(at, chunk)
            left = get(side, lo.CHUNKS) - 1
            put(side, lo.CHUNKS, left)
            chunk = get4(directory_at(at, side), left - 1)
            put(side, lo.CHUNK, chunk)
            top = get4(at.chunk_n, chunk)
        put(side, lo.LEVELS_IN, top)
    return I(0)
