# ruff: noqa: SIM109  # `in (a, b)` compiles to a call
"""The order-book kernel: every book of a shard in flat memory, one pass over the records.

`_scan` goes first: it gives each record its book and finds up to where each book's records can be applied, because an
event that does not end in this batch is held back whole. `_run` applies; `_flush` makes the rows of a batch. The same
rules in plain form are reference.py; tests hold the two together bit by bit. Python calls `go` and `take_rows` with
numbers: arrays cost more, and a small batch is mostly that.

Memory: layout.py and pools.py; sorted sides and queues: sides.py; crossed books: crossing.py. Their functions take
numbers only and are compiled into `_run`, or called where they are rare.
"""

from __future__ import annotations

from typing import Any

import numba as nb

from shared.orderbook import engine as kinds
from shared.orderbook import layout as lo
from shared.orderbook import pools
from shared.orderbook.compiled import entry
from shared.orderbook.crossing import execute, overlay
from shared.orderbook.intrinsics import apart, fold, get, get4, inline, move, prefetch, put, put4
from shared.orderbook.pools import (
    I,
    U,
    add_to,
    addresses,
    clear_executed,
    count,
    find_order,
    forget,
    free_order,
    level_at,
    list_touched,
    new_order,
    order_at,
    remember,
    side_at,
    tag_of,
    unlist_executed,
)
from shared.orderbook.sides import (
    ALL,
    append,
    chunk_at,
    drop_level,
    empty_level,
    find,
    level_in,
    near_top,
    resize,
    take,
    unlink,
)
from shared.records import (
    BOOK_CROSSED,
    BOOK_LOCKED,
    BOOK_MAYBE_BAD,
    BOOK_OPEN,
    BOOK_SNAPSHOT,
    EFFECT_ADDED,
    EFFECT_CLEARED,
    EFFECT_MOVED,
    EFFECT_NONE,
    EFFECT_REDUCED,
    EFFECT_REMOVED,
    EFFECT_REPLACED,
    MBO,
)
from shared.units import (
    ACTION_ADD,
    ACTION_CANCEL,
    ACTION_CLEAR,
    ACTION_FILL,
    ACTION_MODIFY,
    ACTION_NONE,
    ACTION_TRADE,
    F_LAST,
    F_MAYBE_BAD_BOOK,
    F_MBP,
    F_SNAPSHOT,
    F_TOB,
    SIDE_ASK,
    SIDE_BID,
    UNDEF_PX,
)

RECORD = lo.RECORD_WORDS * 8  # bytes
BOOK = lo.BOOK_WORDS * 8
TOP_OR_LEVEL = F_TOB | F_MBP
BESTS = lo.BEST | lo.BEST << 1
KEPT = lo.MET | lo.MOVED | BESTS  # bits of STATE that outlive an event

# Prefetching helps only where the tables are larger than the caches; below that it costs 3-12 ns a record.
DEEP_TABLE = 32_768
MANY_BOOKS = 256

_I8 = nb.int64[::1]


# --- first pass ----------------------------------------------------------------------------------------------


@inline
def _find_book(meta: Any, index: Any, books: Any, key: Any) -> Any:
    """(slot + 1 of a book or 0, place in the index)."""
    mask = get(meta, lo.INDEX_CAP) - 1
    h = I(fold(U(key) ^ U(get(meta, lo.SEED)), U(get(meta, lo.SEED2)))) & mask
    found = get4(index, h)
    while found and get(books + (found - 1) * BOOK, lo.KEY) != key:
        h = (h + 1) & mask
        found = get4(index, h)
    return found, h


@apart
def _new_book(meta: Any, index: Any, books: Any, key: Any, h: Any) -> Any:
    """The slot of a new book, −1 if there is no room."""
    if get(meta, lo.BOOK_FREE):
        slot = get(meta, lo.BOOK_FREE) - 1
        put(meta, lo.BOOK_FREE, get(books + slot * BOOK, lo.KEY))
    elif get(meta, lo.BOOKS_USED) < get(meta, lo.BOOK_CAP):
        slot = get(meta, lo.BOOKS_USED)
        put(meta, lo.BOOKS_USED, slot + 1)
    else:
        return I(-1)
    put4(index, h, slot + 1)
    book = books + slot * BOOK
    for k in range(lo.BOOK_WORDS):
        put(book, k, 0)
    put(book, lo.KEY, key)
    put(book, lo.HEAD, (key >> 16) | ((key & 0xFFFF) << 32))
    put(book, lo.APPLY, -1)
    put(book, lo.INTERRUPTED, -1)
    for word in (lo.LAST_PX, lo.BBO, lo.BBO + 3, lo.AUCTION + 3, lo.AUCTION + 6):
        put(book, word, UNDEF_PX)
    _next_event(meta, book)
    return slot


@inline
def _next_event(meta: Any, book: Any) -> Any:
    """Give the book's event a number of its own: it marks orders filled in it."""
    add_to(meta, lo.EVENT, 1)
    put(book, lo.EVENT_NO, get(meta, lo.EVENT))


@apart
def _interrupt(book: Any, slots: Any, first: Any) -> Any:
    """A snapshot begins inside an event: what is held of it is applied, and its first record enters the snapshot."""
    count(book, kinds.EVENT_INTERRUPTED)
    begun = get(book, lo.FIRST_HELD)
    if begun >= first:
        put4(slots, begun - first, get4(slots, begun - first) | lo.ENTERS)
    else:
        put(book, lo.INTERRUPTED, begun)
    put(book, lo.OPEN, 0)


@apart
def _scan(record: Any, n: Any, meta: Any, first: Any, start: Any) -> Any:
    """Give records `start`… their book slots; returns the number of the first one whose book has no room."""
    books, index, slots = get(meta, lo.AT_BOOKS), get(meta, lo.AT_INDEX), get(meta, lo.AT_SLOTS)
    mask, seed, seed2 = get(meta, lo.INDEX_CAP) - 1, U(get(meta, lo.SEED)), U(get(meta, lo.SEED2))
    many = get(meta, lo.BOOKS_USED) > MANY_BOOKS
    last_key, slot = I(-1), I(0)
    open_records, carry_max = get(meta, lo.OPEN_RECORDS), get(meta, lo.CARRY_MAX)
    for i in range(start, n):
        now = record + i * RECORD
        # With many books: where the one of record i + 16 stands in the index, then the one of record i + 8.
        if many and i + 16 < n:
            key = I(U(get(now + 16 * RECORD, 0)) >> U(16))
            h = I(fold(U(key) ^ seed, seed2)) & mask
            prefetch(index + h * 4)
            put4(slots, i + 16, h)
        if many and i >= start + 8 and i + 8 < n:
            found = get4(index, get4(slots, i + 8))
            prefetch(books + (found - 1) * BOOK)
        key = I(U(get(now, 0)) >> U(16))
        if key != last_key:
            found, h = _find_book(meta, index, books, key)
            slot = found - 1
            if found == 0:
                slot = _new_book(meta, index, books, key, h)
                if slot < 0:
                    put(meta, lo.OPEN_RECORDS, open_records)
                    return i
            last_key = key
        book = books + slot * BOOK
        flags = get4(now, 9) & 0xFF
        mark = slot
        if flags & F_SNAPSHOT:
            if get(book, lo.OPEN):
                open_records -= get(book, lo.OPEN)
                _interrupt(book, slots, first)
            put(book, lo.APPLY, first + i)
            if flags & F_LAST:
                mark |= lo.ENDS
        else:
            held = get(book, lo.OPEN) + 1
            open_records += 1
            if flags & F_LAST or held == kinds.EVENT_RECORDS_MAX or open_records == carry_max:
                if not flags & F_LAST:
                    count(book, kinds.EVENT_TOO_LONG)
                mark |= lo.ENDS
                open_records -= held
                held = 0
                put(book, lo.APPLY, first + i)
            elif held == 1:
                put(book, lo.FIRST_HELD, first + i)
            put(book, lo.OPEN, held)
        put4(slots, i, mark)
    put(meta, lo.OPEN_RECORDS, open_records)
    return n


# --- parts of `_run` ------------------------------------------------------------------------------------------


@inline
def _prefetch_books(at: Any, record: Any, slots: Any, k: Any) -> Any:
    """With many books: what records 12, 6, 4 and 2 further on will touch of their books, levels and queues.

    Where the price of record `k` + 4 stands is kept as a hint for `find`.
    """
    line = at.books + (get4(slots, k + 12) & lo.SLOT) * BOOK
    prefetch(line)
    prefetch(line + 64)
    prefetch(line + 128)
    prefetch(line + 192)
    which = I(get4(record + 6 * RECORD, 9) >> 24 == SIDE_ASK)
    side = side_at(at.books + (get4(slots, k + 6) & lo.SLOT) * BOOK, which)
    top = chunk_at(at, get(side, lo.CHUNK)) + get(side, lo.LEVELS_IN) * 16
    prefetch(top - 16)
    prefetch(top - 80)
    prefetch(top - 144)
    # Where its price stands on its side; the level there, or the one that is best once that is gone; its last order.
    soon = record + 4 * RECORD
    which = I(get4(soon, 9) >> 24 == SIDE_ASK)
    side = side_at(at.books + (get4(slots, k + 4) & lo.SLOT) * BOOK, which)
    top, key, lv, better = get(side, lo.LEVELS_IN), get(soon, 3) ^ -which, I(0), I(0)
    if top:
        end = chunk_at(at, get(side, lo.CHUNK)) + top * 16
        better = near_top(end, top, key)
        level = end - better * 16
        lv = get(level, -1) & -I(get(level, -2) == key)
        prefetch(level_at(at, lv))
        prefetch(level_at(at, get(end, -3) & -I(better == 0)))
    put(at.meta, lo.SOON + (k + 4 & 7), lv)
    put(at.meta, lo.HINTS + (k + 4 & 7), better)
    lv = get(at.meta, lo.SOON + (k + 2 & 7))
    prefetch(order_at(at, get4(level_at(at, lv), lo.L_TAIL)))


@inline
def _likely(at: Any, k: Any) -> Any:
    """The order that record `k` names, if its tag stands in the first or second place where it may; else 0."""
    tag = get(at.meta, lo.TAGS + (k & 15))
    h = tag >> at.hash_shift
    place = at.table + h * 8
    place = place if get4(place, 1) == tag else at.table + (h + 1 & at.hash_mask) * 8
    return get4(place, 0) if get4(place, 1) == tag else I(0)


@inline
def _prefetch_orders(at: Any, record: Any, slots: Any, k: Any) -> Any:
    """With many orders: where records 12, 8 and 4 further on will find theirs, the order, its neighbours and level."""
    tag = tag_of(at.seed, at.seed2, get4(slots, k + 12) & lo.SLOT, get(record + 12 * RECORD, 2))
    put(at.meta, lo.TAGS + (k + 12 & 15), tag)
    place = at.table + (tag >> at.hash_shift) * 8
    prefetch(place)
    prefetch(place + 24)  # if the search begins near the end of a line, the next one
    i = _likely(at, k + 8)
    put(at.meta, lo.ORDERS + (k + 8 & 7), i)
    prefetch(order_at(at, i))
    order = order_at(at, get(at.meta, lo.ORDERS + (k + 4 & 7)))
    prefetch(order_at(at, get4(order, lo.O_PREV)))
    prefetch(order_at(at, get4(order, lo.O_NEXT)))
    prefetch(level_at(at, get4(order, lo.O_LEVEL) >> 2))


@apart
def _room(at: Any) -> Any:
    """Records for which the pools have room: each takes at most one order, one level and two chunks."""
    meta = at.meta
    room = get(meta, lo.ORDER_CAP) - get(meta, lo.ORDERS_USED) + get(meta, lo.ORDERS_FREE)
    room = min(room, get(meta, lo.LEVEL_CAP) - get(meta, lo.LEVELS_USED) + get(meta, lo.LEVELS_FREE))
    room = min(room, (get(meta, lo.CHUNK_CAP) - get(meta, lo.CHUNKS_USED) + get(meta, lo.CHUNKS_FREE)) // 2)
    # Every order is in the table once at most: it stays half empty.
    room = min(room, get(meta, lo.TABLE_CAP) // 2 - get(meta, lo.ORDERS_USED) + get(meta, lo.ORDERS_FREE))
    if get(meta, lo.DIR_CAP) - get(meta, lo.DIRS_USED) < lo.DIR_FIRST << (get(meta, lo.DIR_CLASS) + 1):
        room = I(0)
    return room


@inline
def _end_rows(rows: Any, row_words: Any, chain: Any, ordinal: Any) -> Any:
    """Give the rows of a chain (row + 1, linked through their `end`) that end."""
    while chain:
        row = rows + (chain - 1) * (row_words * 8)
        chain = get(row, 1)
        put(row, 1, ordinal)


@inline
def _end_chains(at: Any, book: Any, ordinal: Any) -> Any:
    """Trades and effects of the event get the ordinal that ends it."""
    trades = get(book, lo.TRADES)
    if trades:
        _end_rows(get(at.meta, lo.AT_TRADES), lo.TRADE_ROW_WORDS, trades, ordinal)
        put(book, lo.TRADES, 0)
        add_to(at.meta, lo.OPEN_TRADES, -1)
    if at.mode & pools.WITH_EFFECTS:
        _end_rows(get(at.meta, lo.AT_EFFECTS), lo.EFFECT_ROW_WORDS, get(book, lo.EFFECTS), ordinal)
        put(book, lo.EFFECTS, 0)


@apart
def _chain_listed(at: Any) -> Any:
    """Levels listed since the last snapshot began are chained by book: each is looked at once in a batch."""
    for n in range(get(at.meta, lo.CHAINED), get(at.meta, lo.DIRTY)):
        row = at.dirty + n * (lo.DIRTY_WORDS * 8)
        book = at.books + (get(row, 1) >> 1) * BOOK
        put4(row, 7, get(book, lo.LISTED))
        put(book, lo.LISTED, n + 1)
    put(at.meta, lo.CHAINED, get(at.meta, lo.DIRTY))


@apart
def _enter_snapshot(at: Any, book: Any, state: Any) -> Any:
    """From here on nothing of the book is published; what this batch has touched in it is, as it stands now."""
    if state & lo.FILLED:
        _next_event(at.meta, book)
    _chain_listed(at)
    place = get(book, lo.LISTED)
    put(book, lo.LISTED, 0)
    while place:
        row = at.dirty + (place - 1) * (lo.DIRTY_WORDS * 8)
        lv, size, n = get(row, 2), I(0), I(0)
        place = get4(row, 7)
        if lv:
            level = level_at(at, lv)
            size, n = get(level, 1), get4(level, lo.L_COUNT)
            put4(level, lo.L_DIRTY, 0)
        put(row, 1, -2 - get(row, 1))
        put(row, 2, size)
        put4(row, 7, n)
        add_to(at.meta, lo.EARLY, 1)
    return lo.IN_SNAPSHOT | (state & KEPT)


@apart
def _in_snapshot(at: Any, book: Any, slot: Any, ordinal: Any) -> Any:
    """What was held before a snapshot ends with its first record."""
    _end_chains(at, book, ordinal)
    if get(book, lo.FLAGS) & BOOK_OPEN:
        put(book, lo.FLAGS, get(book, lo.FLAGS) & ~BOOK_OPEN)
        list_touched(at, book, slot)


@apart
def _note(
    at: Any, book: Any, record: Any, k: Any, ordinal: Any, effect: Any, before: Any, after: Any, why: Any
) -> Any:
    """An EFFECT row, chained to the others of its event."""
    n = get(at.meta, lo.EFFECT_ROWS)
    put(at.meta, lo.EFFECT_ROWS, n + 1)
    row = get(at.meta, lo.AT_EFFECTS) + n * (lo.EFFECT_ROW_WORDS * 8)
    put(row, 0, ordinal)
    put(row, 2, k | before << 32)
    put(row, 3, after | effect << 32 | why << 40)
    if get4(record, 9) & F_SNAPSHOT:
        put(row, 1, ordinal)
    else:
        put(row, 1, get(book, lo.EFFECTS))
        put(book, lo.EFFECTS, n + 1)


@inline
def _trade(at: Any, book: Any, record: Any, ordinal: Any) -> Any:
    """T: the book's last price, and a TRADE row whose `end` links it to the event's others. Returns an anomaly or 0."""
    px, size, flags = get(record, 3), get4(record, 8), get4(record, 9) & 0xFF
    if px == UNDEF_PX:
        return count(book, kinds.UNDEFINED_PRICE)
    if size == 0:
        return count(book, kinds.ZERO_SIZE)
    if flags & F_SNAPSHOT:
        return count(book, kinds.SNAPSHOT_TRADE)
    put(book, lo.LAST_PX, px)
    if at.mode & pools.EVERYTHING:
        n = get(at.meta, lo.TRADE_ROWS)
        put(at.meta, lo.TRADE_ROWS, n + 1)
        row, head = get(at.meta, lo.AT_TRADES) + n * (lo.TRADE_ROW_WORDS * 8), get(book, lo.HEAD)
        if not get(book, lo.TRADES):
            add_to(at.meta, lo.OPEN_TRADES, 1)
            if get(at.meta, lo.OPEN_TRADES) > 1:
                put(at.meta, lo.INTERLEAVED, 1)
        put(row, 0, ordinal)
        put(row, 1, get(book, lo.TRADES))
        put(row, 2, get(record, 1))
        put(row, 3, get(record, 5))
        put(row, 4, px)
        put(row, 5, size | head << 32)
        put(
            row, 6, get4(record, 13) | (head & 0xFFFF_0000_0000) | (get4(record, 9) >> 24) << 48 | flags << 56
        )
        put(book, lo.TRADES, n + 1)
    return I(0)


@apart
def _aggregate(at: Any, book: Any, slot: Any, record: Any, which: Any, state: Any) -> Any:
    """A, M or C with F_TOB or F_MBP: it speaks of a level, not of an order. (state, effect, before, after, why)."""
    px, size, flags, action = (
        get(record, 3),
        get4(record, 8),
        get4(record, 9) & 0xFF,
        get4(record, 9) >> 16 & 0xFF,
    )
    if which == 2:
        return state, I(EFFECT_NONE), I(0), I(0), count(book, I(kinds.BAD_SIDE))
    owner, key = slot << 1 | which, px ^ -which
    chunk, _, _, place = find(at, side_at(book, which), key)
    lv = level_in(chunk_at(at, chunk), place, key)
    if action == ACTION_CANCEL:
        i = get4(level_at(at, lv), lo.L_HEAD) if lv else I(0)
        if i == 0 or not get4(order_at(at, i), lo.O_LEVEL) & 2:
            return state, I(EFFECT_NONE), I(0), I(0), count(book, I(kinds.UNKNOWN_CANCEL))
        had = get4(order_at(at, i), lo.O_SIZE)
        if size == 0:
            return state, I(EFFECT_NONE), had, had, count(book, I(kinds.ZERO_SIZE))
        if size < had:
            return resize(at, book, slot, i, had - size, state), I(EFFECT_REDUCED), had, had - size, I(0)
        why = count(book, I(kinds.OVERSIZE_CANCEL)) if size > had else I(0)
        state = unlink(at, book, slot, i, state)
        free_order(at, i)
        return state, I(EFFECT_REMOVED), had, I(0), why
    if flags & F_TOB:
        take(at, book, owner, ALL, False, state)
        state |= lo.MOVED | BESTS
        size = size if px != UNDEF_PX else I(0)
    elif px == UNDEF_PX:
        return state, I(EFFECT_NONE), I(0), I(0), count(book, I(kinds.UNDEFINED_PRICE))
    elif lv:
        state |= lo.MOVED | BESTS
        empty_level(at, book, owner, lv, ALL, False, state)
        if size == 0:
            drop_level(at, book, owner, lv)
    if size:
        state = append(at, book, owner, key, new_order(at), get(record, 2), get(record, 1), size, 1, state)
    return state, I(EFFECT_REPLACED), I(0), size, I(0)


@inline
def _publish_best(at: Any, book: Any, which: Any, state: Any) -> Any:
    """Set one side of the BBO if its best level may have changed; 1 if it has."""
    if not state & lo.BEST << which:
        return I(0)
    side, best = side_at(book, which), book + (lo.BBO + 3 * which) * 8
    top = get(side, lo.LEVELS_IN)
    px, size, n = I(UNDEF_PX), I(0), I(0)
    if top:
        place = chunk_at(at, get(side, lo.CHUNK)) + top * 16
        level = level_at(at, get(place, -1))
        px, size, n = get(place, -2) ^ -which, get(level, 1), get4(level, lo.L_COUNT)
    changed = I(get(best, 0) != px) | I(get(best, 1) != size) | I(get(best, 2) != n)
    put(best, 0, px)
    put(best, 1, size)
    put(best, 2, n)
    return changed


@inline
def _end_event(at: Any, book: Any, slot: Any, ordinal: Any, state: Any) -> Any:
    """Publish what has changed; returns the book's state."""
    if state & lo.FILLED:
        _next_event(at.meta, book)
    state &= lo.MAYBE_BAD | KEPT
    _end_chains(at, book, ordinal)
    list_touched(at, book, slot)
    shown = get(book, lo.FLAGS) & (BOOK_CROSSED | BOOK_LOCKED)
    if state & lo.MAYBE_BAD:
        shown |= BOOK_MAYBE_BAD
    # Only a side whose best level may have changed is looked at: most events touch neither.
    if state & BESTS:
        changed = _publish_best(at, book, 0, state) | _publish_best(at, book, 1, state)
        state &= ~BESTS
        if changed:
            bid_px, ask_px = get(book, lo.BBO), get(book, lo.BBO + 3)
            bid_ct, ask_ct = get(book, lo.BBO + 2), get(book, lo.BBO + 5)
            shown &= BOOK_MAYBE_BAD
            if bid_px >= ask_px and bid_ct and ask_ct:
                shown |= BOOK_CROSSED if bid_px > ask_px else BOOK_LOCKED
            n = get(at.meta, lo.BBO_ROWS)
            put(at.meta, lo.BBO_ROWS, n + 1)
            row = get(at.meta, lo.AT_BBO) + n * (lo.BBO_ROW_WORDS * 8)
            put(row, 0, ordinal)
            put(row, 1, get(book, lo.TS_EVENT))
            put(row, 2, get(book, lo.TS_RECV))
            put(row, 3, get(book, lo.HEAD) | shown << 48)
            put(row, 4, bid_px)
            put(row, 5, ask_px)
            put(row, 6, get(book, lo.BBO + 1))
            put(row, 7, get(book, lo.BBO + 4))
            put(row, 8, bid_ct | ask_ct << 32)
    put(book, lo.FLAGS, shown)
    if at.mode & pools.POLICY_BITS == pools.UNCROSS:
        # Nothing to do if no level has changed that the overlay depends on, and no trade has moved its anchor.
        meets = shown & (BOOK_CROSSED | BOOK_LOCKED) != 0
        if meets != (state & lo.MET != 0) or (meets and state & lo.MOVED):
            state = (state & lo.MAYBE_BAD) | (lo.MET if meets else 0)
            overlay(at, book, meets, ordinal)
    return state


# --- second pass ---------------------------------------------------------------------------------------------


@apart
def _run(
    records: Any, slots: Any, ordinals: Any, n: Any, meta: Any, first: Any, synthetic: Any, mode: Any
) -> Any:
    """Apply records meta[POSITION] … n − 1; stops early when a pool or an output is full (meta[REASON]).

    Record k has the ordinal `first` + k, or the k-th of `ordinals` unless that is 0; the last `synthetic` ones (all
    with ordinal `first` + n − synthetic) stand for the end of the session or a clear: nothing of them is counted.
    """
    at = addresses(meta, mode)
    held = get(meta, lo.AT_HELD)
    deep = at.hash_mask + 1 >= DEEP_TABLE
    many = get(meta, lo.BOOKS_USED) > MANY_BOOKS
    k = get(meta, lo.POSITION)
    put(meta, lo.REASON, lo.DONE)

    # A record lists three levels at most (M: two, what `execute` takes a part of: one) but for those it makes go, and
    # those are no more than there are and one new a record. A snapshot that begins makes all levels unlisted again.
    listed = get(meta, lo.LEVELS_USED) - get(meta, lo.LEVELS_FREE) + get(meta, lo.DIRTY)
    if mode & pools.EVERYTHING and get(meta, lo.DIRTY_CAP) < listed + 4 * (n - k) + 2:
        put(meta, lo.REASON, lo.DIRTY_FULL)
        return
    room = I(0)
    put(meta, lo.ROOM, 0)
    put(meta, lo.HINT, -1)

    while k < n:
        record = records + k * RECORD
        mark = get4(slots, k)
        slot = mark & lo.SLOT
        book = at.books + slot * BOOK
        fake = k >= n - synthetic
        o = get(ordinals, k) if ordinals else first + (n - synthetic if fake else k)
        if many and k + 12 < n:
            _prefetch_books(at, record, slots, k)
            put(meta, lo.HINT, get(meta, lo.HINTS + (k & 7)))
        if deep and k + 12 < n:
            _prefetch_orders(at, record, slots, k)

        if o > get(book, lo.APPLY) and not fake:
            put4(held, get(meta, lo.HELD), k)
            add_to(meta, lo.HELD, 1)
            k += 1
            continue

        room = get(meta, lo.ROOM) - 1
        if room < 0:
            room = _room(at) - 1
            if room < 0:
                put(meta, lo.REASON, lo.POOLS_FULL)
                break
        put(meta, lo.ROOM, room)

        tail = get(record, 4)
        size, flags = tail & pools.LOW_32, (tail >> 32) & 0xFF
        action, letter = (tail >> 48) & 0xFF, (tail >> 56) & 0xFF
        oid, px = get(record, 2), get(record, 3)
        which = I(0) if letter == SIDE_BID else I(1) if letter == SIDE_ASK else I(2)
        key = px ^ -(which & 1)  # ~price of an ask: on both sides the best level has the largest key
        state = get(book, lo.STATE)
        if not fake:
            add_to(book, lo.RECORDS, 1)
            put(book, lo.TS_EVENT, get(record, 1))
            put(book, lo.TS_RECV, get(record, 5))
        put(book, lo.ORDINAL, o)
        if (flags & F_SNAPSHOT or mark & lo.ENTERS) and not state & lo.IN_SNAPSHOT:
            state = _enter_snapshot(at, book, state)
        if flags & F_SNAPSHOT:
            _in_snapshot(at, book, slot, o)

        # --- what the record does ---------------------------------------------------------------------------------
        effect, before, after, why = I(EFFECT_NONE), I(0), I(0), I(0)
        is_order = action == ACTION_ADD or action == ACTION_CANCEL or action == ACTION_MODIFY
        if is_order and flags & TOP_OR_LEVEL:
            state, effect, before, after, why = _aggregate(at, book, slot, record, which, state)
        elif is_order or action == ACTION_FILL:
            i, h, tag = find_order(at, slot, oid)
            order = order_at(at, i)
            where, had = get4(order, lo.O_LEVEL), get4(order, lo.O_SIZE)
            executed = i != 0 and where == lo.O_EXECUTED
            live = i != 0 and not executed
            gone, rests = False, False  # it leaves its queue; it stands at the back of one
            if action == ACTION_ADD:
                if which == 2:
                    why = count(book, I(kinds.BAD_SIDE))
                elif px == UNDEF_PX:
                    why = count(book, I(kinds.UNDEFINED_PRICE))
                elif size == 0:
                    why = count(book, I(kinds.ZERO_SIZE))
                else:
                    effect, after, rests = I(EFFECT_ADDED), size, True
                    gone = i != 0
                    if live:
                        effect, before, why = I(EFFECT_REPLACED), had, count(book, I(kinds.DUPLICATE_ADD))
            elif action == ACTION_CANCEL:
                if not live:
                    why = count(book, I(kinds.EXECUTED_ORDER) if executed else I(kinds.UNKNOWN_CANCEL))
                    gone = executed
                elif size == 0:
                    before, after, why = had, had, count(book, I(kinds.ZERO_SIZE))
                else:
                    before = had
                    if size > had:
                        why = count(book, I(kinds.OVERSIZE_CANCEL))
                    if px != get(level_at(at, where >> 2), 0) ^ -(where & 1):
                        why = count(book, I(kinds.PRICE_MISMATCH))
                    if which != where & 1:
                        why = count(book, I(kinds.SIDE_MISMATCH))
                    if size >= had:
                        effect, gone = I(EFFECT_REMOVED), True
                    else:
                        effect, after = I(EFFECT_REDUCED), had - size
                        state = resize(at, book, slot, i, after, state)
            elif action == ACTION_MODIFY:
                if which == 2:
                    why = count(book, I(kinds.BAD_SIDE))
                elif px == UNDEF_PX:
                    why = count(book, I(kinds.UNDEFINED_PRICE))
                elif not live:
                    why = count(book, I(kinds.EXECUTED_ORDER) if executed else I(kinds.UNKNOWN_MODIFY))
                    gone = executed
                    if size == 0:
                        count(book, I(kinds.ZERO_SIZE))
                    else:
                        effect, after, rests = I(EFFECT_ADDED), size, True
                else:
                    before, after = had, size
                    if size == 0:
                        why = count(book, I(kinds.ZERO_SIZE))
                    if which != where & 1:
                        why = count(book, I(kinds.SIDE_MISMATCH))
                    if size == 0:
                        effect, gone = I(EFFECT_REMOVED), True
                    elif why or size > had or px != get(level_at(at, where >> 2), 0) ^ -(where & 1):
                        effect, gone, rests = I(EFFECT_MOVED), True, True
                    elif size < had:
                        effect = I(EFFECT_REDUCED)
                        state = resize(at, book, slot, i, size, state)
                    elif state & lo.FILLED and get(at.fills, i) == get(book, lo.EVENT_NO):
                        why = count(book, I(kinds.REFILL))
            elif live:  # F: names an order, changes nothing
                before, after = had, had
                if not state & lo.IN_SNAPSHOT:
                    put(at.fills, i, get(book, lo.EVENT_NO))
                    state |= lo.FILLED
            else:
                why = count(book, I(kinds.EXECUTED_ORDER) if executed else I(kinds.UNKNOWN_FILL))

            if gone:
                if executed:
                    unlist_executed(at, book, i)
                else:
                    state = unlink(at, book, slot, i, state)
                if not rests:
                    forget(at, h)
                    free_order(at, i)
            if rests:
                if i == 0:
                    i = new_order(at)
                    remember(at, h, tag, i)
                state = append(at, book, slot << 1 | which, key, i, oid, get(record, 1), size, 0, state)
        elif action == ACTION_TRADE:
            why = _trade(at, book, record, o)
            if why == 0:
                state |= lo.MOVED
        elif action == ACTION_CLEAR:
            effect = I(EFFECT_CLEARED)
            take(at, book, slot << 1, ALL, False, state)
            take(at, book, slot << 1 | 1, ALL, False, state)
            clear_executed(at, book, slot)
            state = (state & ~lo.MAYBE_BAD) | lo.MOVED | BESTS
        elif action != ACTION_NONE:
            why = count(book, I(kinds.BAD_ACTION))

        if mark & lo.ENDS and mode & pools.POLICY_BITS == pools.EXECUTE and state & BESTS:
            state = execute(at, book, slot, state)
        if not fake:
            if flags & F_MAYBE_BAD_BOOK:
                state |= lo.MAYBE_BAD
                count(book, kinds.MAYBE_BAD_BOOK)
            if mode & pools.WITH_EFFECTS:
                _note(at, book, record, k, o, effect, before, after, why)
        elif action == ACTION_NONE:
            count(book, kinds.EVENT_UNFINISHED)

        if mark & lo.ENDS:
            state = _end_event(at, book, slot, o, state)
        elif flags & F_SNAPSHOT and not get(book, lo.FLAGS) & BOOK_SNAPSHOT:
            put(book, lo.FLAGS, get(book, lo.FLAGS) | BOOK_SNAPSHOT)
            list_touched(at, book, slot)
        put(book, lo.STATE, state)
        k += 1

    put(meta, lo.POSITION, k)


# --- what Python calls ---------------------------------------------------------------------------------------


@apart
def _carry_ends(meta: Any, first: Any) -> Any:
    """Whether an event of the carry ends in the records just scanned."""
    books, slots = get(meta, lo.AT_BOOKS), get(meta, lo.AT_CARRY_SLOTS)
    for i in range(get(meta, lo.CARRY_RECORDS)):  # noqa: SIM110 - not in numba
        if get(books + get4(slots, i) * BOOK, lo.APPLY) >= first:
            return True
    return False


@entry(
    *(nb.int64(nb.types.Array(nb.from_dtype(MBO), 1, "C", readonly=readonly)) for readonly in (False, True))
)
def address(records: Any) -> Any:
    """Where records lie. A call with an array of another type than compiled, or with `ctypes.data`, costs 0.6 µs."""
    return I(records.ctypes.data)


@apart
def _take_up(meta: Any) -> Any:
    """The carry goes before the records just scanned; its first record of an event a snapshot interrupts is marked."""
    n, books = get(meta, lo.CARRY_RECORDS), get(meta, lo.AT_BOOKS)
    slots, ordinals = get(meta, lo.AT_CARRY_SLOTS), get(meta, lo.AT_CARRY_ORDINALS)
    for i in range(n):
        slot = get4(slots, i)
        if get(books + slot * BOOK, lo.INTERRUPTED) == get(ordinals, i):
            put4(slots, i, slot | lo.ENTERS)
    put(meta, lo.CARRIED, n)
    put(meta, lo.CARRY_RECORDS, 0)


@apart
def _hold(meta: Any, records: Any, slots: Any, first: Any) -> Any:
    """What `_run` has held back goes to the carry: some of it again, the others behind."""
    carry, carry_slots, ordinals = (
        get(meta, lo.AT_CARRY),
        get(meta, lo.AT_CARRY_SLOTS),
        get(meta, lo.AT_CARRY_ORDINALS),
    )
    held, carried, to = get(meta, lo.AT_HELD), get(meta, lo.CARRIED), get(meta, lo.CARRY_RECORDS)
    for i in range(get(meta, lo.HELD)):
        k = get4(held, i)
        if k < carried:
            move(carry + to * RECORD, carry + k * RECORD, RECORD)
            put(ordinals, to, get(ordinals, k))
            put4(carry_slots, to, get4(carry_slots, k))
        else:
            move(carry + to * RECORD, records + k * RECORD, RECORD)
            put(ordinals, to, first + k)
            put4(carry_slots, to, get4(slots, k))
        to += 1
    put(meta, lo.CARRY_RECORDS, to)


@entry(nb.int64(nb.int64, nb.int64, nb.int64, nb.int64, nb.int64, nb.int64, nb.int64))
def go(stage: Any, records: Any, n: Any, meta: Any, first: Any, synthetic: Any, mode: Any) -> Any:
    """Scan and run n records at an address, behind the carry if an event of it ends in them.

    Begins at stage BEGIN. Returns DONE, or what is full: the caller makes room and calls again with that as stage. The
    last `synthetic` records all have ordinal `first`.
    """
    if stage == lo.BEGIN or stage == lo.OUTPUT_FULL:
        for k in range(lo.HELD, lo.OPEN_TRADES + 1):
            put(meta, k, 0)
        for k in range(lo.POSITION, lo.CARRIED + 1):
            put(meta, k, 0)
        put(meta, lo.OPEN_RECORDS, get(meta, lo.CARRY_RECORDS))
        # Each record makes at most one row of a kind.
        if get(meta, lo.CARRY_RECORDS) + n > get(meta, lo.ROW_CAP):
            return lo.OUTPUT_FULL
    slots = get(meta, lo.AT_SLOTS)
    if stage == lo.BEGIN or stage == lo.OUTPUT_FULL or stage == lo.BOOKS_FULL:
        put(meta, lo.SCANNED, _scan(records, n, meta, first, get(meta, lo.SCANNED)))
        if get(meta, lo.SCANNED) < n:
            return lo.BOOKS_FULL
        if get(meta, lo.CARRY_RECORDS) and _carry_ends(meta, first):
            _take_up(meta)
    carried = get(meta, lo.CARRIED)
    if get(meta, lo.POSITION) < carried:
        carry, ordinals = get(meta, lo.AT_CARRY), get(meta, lo.AT_CARRY_ORDINALS)
        _run(carry, get(meta, lo.AT_CARRY_SLOTS), ordinals, carried, meta, I(0), I(0), mode)
        if get(meta, lo.POSITION) < carried:
            return get(meta, lo.REASON)
    # Places are counted from the carry's first record on.
    records, slots, first, n = records - carried * RECORD, slots - carried * 4, first - carried, n + carried
    _run(records, slots, I(0), n, meta, first, synthetic, mode)
    if get(meta, lo.POSITION) < n:
        return get(meta, lo.REASON)
    if get(meta, lo.HELD):
        _hold(meta, records, slots, first)
    return lo.DONE


# --- the rows of a batch -------------------------------------------------------------------------------------


@inline
def _take(meta: Any, counter: Any, source: Any, row_words: Any, out: Any) -> Any:
    """Move the rows `_run` has made of a kind to `out`; where the next kind goes."""
    size = get(meta, counter) * (row_words * 8)
    move(out, get(meta, source), size)
    return out + size


@entry(nb.void(nb.int64))
def close(meta: Any) -> None:
    """A batch ends: books with records held back are touched if they were not open before."""
    at, held = addresses(meta, 0), get(meta, lo.AT_CARRY_SLOTS)
    for i in range(get(meta, lo.CARRY_RECORDS)):
        slot = get4(held, i)
        book = at.books + slot * BOOK
        if not get(book, lo.FLAGS) & BOOK_OPEN:
            put(book, lo.FLAGS, get(book, lo.FLAGS) | BOOK_OPEN)
            list_touched(at, book, slot)


@apart
def _flush(meta: Any, out: Any) -> Any:
    """Rows of the levels touched, and behind the room for all of them those of the books; the number of the former."""
    at = addresses(meta, 0)
    row, listed = out + get(meta, lo.DIRTY) * (lo.LEVEL_ROW_WORDS * 8), get(meta, lo.AT_TOUCHED)
    for i in range(get(meta, lo.TOUCHED_BOOKS)):
        book = at.books + get4(listed, i) * BOOK
        put(row, 0, get(book, lo.ORDINAL))
        put(row, 1, get(book, lo.TS_EVENT))
        put(row, 2, get(book, lo.TS_RECV))
        put(row, 3, get(book, lo.HEAD) | get(book, lo.FLAGS) << 48)
        row += lo.TOUCHED_ROW_WORDS * 8
    row, made, waiting = out, I(0), I(0)
    for i in range(get(meta, lo.DIRTY)):
        entry = at.dirty + i * (lo.DIRTY_WORDS * 8)
        key, owner, lv, last = get(entry, 0), get(entry, 1), get(entry, 2), get(entry, 3)
        if last & pools.LOW_32:
            put4(at.graves, (last & pools.LOW_32) - 1, 0)
        size, n, early = I(0), I(0), owner < 0
        if early:  # as it stood when its book entered a snapshot
            owner, size, n = -2 - owner, lv, last >> 32
        else:
            if lv:
                level = level_at(at, lv)
                put4(level, lo.L_DIRTY, 0)
                size, n = get(level, 1), get4(level, lo.L_COUNT)
        book = at.books + (owner >> 1) * BOOK
        put(book, lo.LISTED, 0)
        if not early and get(book, lo.STATE) & lo.IN_SNAPSHOT:
            entry = at.dirty + waiting * (lo.DIRTY_WORDS * 8)
            put(entry, 0, key)
            put(entry, 1, owner)
            put(entry, 2, lv)
            put(entry, 3, 0)
            waiting += 1
            continue
        put(row, 0, get(book, lo.HEAD) | I(SIDE_ASK if owner & 1 else SIDE_BID) << 48)
        put(row, 1, key ^ -(owner & 1))
        put(row, 2, size)
        put(row, 3, n)
        row += lo.LEVEL_ROW_WORDS * 8
        made += 1
    put(meta, lo.DIRTY, waiting)
    put(meta, lo.CHAINED, 0)
    put(meta, lo.TOUCHED_BOOKS, 0)
    put(meta, lo.GRAVES, 0)
    add_to(meta, lo.BATCH, 1)
    return made


@entry(nb.int64(nb.int64, _I8, nb.boolean))
def take_rows(meta: Any, words: Any, last: Any) -> Any:
    """Rows, kind after kind: BBO, trades, auctions and, with the `last` records of a batch, levels and books touched.

    There is room for a row of each level in the dirty list; returns how many have one. Those of books inside a snapshot
    stay in the list: meta[DIRTY] then is their number.
    """
    out = I(words.ctypes.data)
    out = _take(meta, lo.BBO_ROWS, lo.AT_BBO, lo.BBO_ROW_WORDS, out)
    out = _take(meta, lo.TRADE_ROWS, lo.AT_TRADES, lo.TRADE_ROW_WORDS, out)
    out = _take(meta, lo.AUCTION_ROWS, lo.AT_AUCTIONS, lo.AUCTION_ROW_WORDS, out)
    return _flush(meta, out) if last else I(0)
