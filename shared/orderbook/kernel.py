# ruff: noqa: SIM109  # `in (a, b)` compiles to a call
"""The order-book kernel: every book of a shard over flat arrays, one pass of one function.

`run` is long on purpose. Helpers that take arrays cost a factor of two in numba, even inlined (reference counts stay
in the loop), so what would be functions are blocks under a comment, and a small state machine (`purpose`, `bulk`) lets
each block exist once. The same rules in plain form are reference.py; tests hold the two together bit by bit.

`scan` goes first: it gives each record its book and finds up to where each book's records can be applied, because an
event that does not end in this batch is held back whole.

Arrays: layout.py. Indices are cast to unsigned (`U`): numba then makes no wrap-around checks. numba's cache looks at
this file's time alone: after a change of constants in layout.py, engine.py, records.py or units.py, touch this file.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from shared.orderbook.engine import (
    BAD_ACTION,
    BAD_SIDE,
    DUPLICATE_ADD,
    EVENT_INTERRUPTED,
    EVENT_RECORDS_MAX,
    EVENT_TOO_LONG,
    EVENT_UNFINISHED,
    EXECUTED_ORDER,
    MAYBE_BAD_BOOK,
    OVERSIZE_CANCEL,
    PRICE_MISMATCH,
    REFILL,
    SIDE_MISMATCH,
    SNAPSHOT_TRADE,
    UNDEFINED_PRICE,
    UNKNOWN_CANCEL,
    UNKNOWN_FILL,
    UNKNOWN_MODIFY,
    ZERO_SIZE,
)
from shared.orderbook.intrinsics import fold, prefetch
from shared.orderbook.layout import (
    APPLY,
    AUCTION,
    AUCTION_ROWS,
    BATCH,
    BBO,
    BBO_ROWS,
    BEST,
    BOOK_FREE,
    BOOK_WORDS,
    BOOKS_USED,
    BOUND,
    CAP,
    CHUNK,
    CHUNK_FREE,
    CHUNKS,
    CHUNKS_FREE,
    CHUNKS_USED,
    COUNTS,
    DIR,
    DIR_CLASS,
    DIR_FIRST,
    DIR_FREE,
    DIRS_USED,
    DIRTY,
    DIRTY_FULL,
    DIRTY_WORDS,
    DONE,
    EARLY,
    EFFECT_ROWS,
    EFFECTS,
    ENDS,
    ENTERS,
    ENTRY_WORDS,
    EVENT,
    EVENT_NO,
    EXECUTED,
    EXECUTED_COUNT,
    EXECUTED_ORDERS,
    FILLED,
    FIRST_HELD,
    FLAGS,
    GRAVES,
    HASH_WORDS,
    HASHED,
    HEAD,
    HELD,
    IN_SNAPSHOT,
    INTERLEAVED,
    INTERRUPTED,
    KEY,
    L_COUNT,
    L_DIRTY,
    L_HEAD,
    L_TAIL,
    LAST_PX,
    LEVEL_FREE,
    LEVEL_WORDS,
    LEVELS,
    LEVELS_FREE,
    LEVELS_IN,
    LEVELS_USED,
    MAYBE_BAD,
    MET,
    MOVED,
    O_EXECUTED,
    O_LEVEL,
    O_NEXT,
    O_PREV,
    O_SIZE,
    OPEN,
    OPEN_TRADES,
    ORDER_FREE,
    ORDER_WORDS,
    ORDERS_FREE,
    ORDERS_USED,
    ORDINAL,
    OUTPUT_FULL,
    PENDING,
    POOLS_FULL,
    POSITION,
    REASON,
    RECORDS,
    SEED,
    SEED2,
    SIDE,
    SLOT,
    SOON,
    STATE,
    TOUCHED,
    TOUCHED_BOOKS,
    TRADE_ROWS,
    TRADES,
    TS_EVENT,
    TS_RECV,
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

U: Any = np.uint64  # as Any: casts, not types
I: Any = np.int64  # noqa: E741
RECORD_WORDS = 7
_MIX = U(0xD6E8_FEB8_6659_FD93)
_UNDEF = UNDEF_PX
_TOP_OR_LEVEL = F_TOB | F_MBP

# What the search for a level is for.
NOTHING, ADD, DROP, AGGREGATE_SET, AGGREGATE_CANCEL = 0, 1, 2, 3, 4
# What is removed in bulk.
BOTH_SIDES, ONE_SIDE, ONE_LEVEL, EXECUTE = 1, 2, 3, 4

# Bits of `mode`.
RAW, UNCROSS, EXECUTING, POLICY_BITS = 0, 1, 2, 3
EVERYTHING, WITH_EFFECTS = 4, 8

# Prefetching helps only where the tables are larger than the caches; below that it costs 3 ns a record.
DEEP_HASH_ENTRIES = 32_768
MANY_BOOKS = 64

_RO = nb.types.Array(nb.uint64, 1, "C", readonly=True)  # takes writable arrays too: one compilation
_I8, _U4, _I4 = nb.int64[::1], nb.uint32[::1], nb.int32[::1]


@nb.njit(nb.int64(_RO, nb.int64, nb.int64, _U4, _I8, _I8, _I4), cache=True, nogil=True)
def scan(words: Any, first: Any, start: Any, slots: Any, meta: Any, books: Any, index: Any) -> Any:
    """Give records `start`… their book slots; returns the number of the first one whose book has no room."""
    n = words.shape[0] // RECORD_WORDS
    for k in range(HELD, OPEN_TRADES + 1):
        meta[k] = 0
    meta[POSITION] = 0
    mask, room = index.shape[0] - 1, books.shape[0] // BOOK_WORDS
    seed, seed2 = U(meta[SEED]), U(meta[SEED2])
    last_key, slot = I(-1), 0
    many, books_at = meta[BOOKS_USED] > MANY_BOOKS, I(books.ctypes.data)
    for i in range(start, n):
        if many and i + 8 < n:
            key = I(words[U((i + 8) * RECORD_WORDS)] >> U(16))
            found = I(index[U(I(fold(U(key) ^ seed, seed2)) & mask)])
            prefetch(books_at + (found - 1) * (BOOK_WORDS * 8))
        key = I(words[U(i * RECORD_WORDS)] >> U(16))
        if key != last_key:
            h = I(fold(U(key) ^ seed, seed2)) & mask
            found = I(index[U(h)])
            while found and books[U((found - 1) * BOOK_WORDS + KEY)] != key:
                h = (h + 1) & mask
                found = I(index[U(h)])
            slot = found - 1
            if not found:
                if meta[BOOK_FREE]:
                    slot = meta[BOOK_FREE] - 1
                    meta[BOOK_FREE] = books[U(slot * BOOK_WORDS + KEY)]
                elif meta[BOOKS_USED] < room:
                    slot = meta[BOOKS_USED]
                    meta[BOOKS_USED] += 1
                else:
                    return i
                index[U(h)] = slot + 1
                b = slot * BOOK_WORDS
                for k in range(BOOK_WORDS):
                    books[U(b + k)] = 0
                books[U(b + KEY)] = key
                books[U(b + HEAD)] = (key >> 16) | ((key & 0xFFFF) << 32)
                books[U(b + APPLY)] = books[U(b + INTERRUPTED)] = -1
                books[U(b + LAST_PX)] = _UNDEF
                books[U(b + BBO)] = _UNDEF
                books[U(b + BBO + 3)] = _UNDEF
                books[U(b + AUCTION + 3)] = _UNDEF
                books[U(b + AUCTION + 6)] = _UNDEF
                meta[EVENT] += 1
                books[U(b + EVENT_NO)] = meta[EVENT]
            last_key = key
        b = slot * BOOK_WORDS
        flags = I(words[U(i * RECORD_WORDS + 4)] >> U(32)) & 0xFF
        mark = slot
        if flags & F_SNAPSHOT:
            if books[U(b + OPEN)]:
                books[U(b + COUNTS + EVENT_INTERRUPTED)] += 1
                begun = books[U(b + FIRST_HELD)]
                if begun >= first:
                    slots[U(begun - first)] |= U(ENTERS)
                else:
                    books[U(b + INTERRUPTED)] = begun
                books[U(b + OPEN)] = 0
            books[U(b + APPLY)] = first + i
            if flags & F_LAST:
                mark |= ENDS
        else:
            held = books[U(b + OPEN)] + 1
            if held == 1:
                books[U(b + FIRST_HELD)] = first + i
            if flags & F_LAST or held == EVENT_RECORDS_MAX:
                if not flags & F_LAST:
                    books[U(b + COUNTS + EVENT_TOO_LONG)] += 1
                mark |= ENDS
                held = 0
                books[U(b + APPLY)] = first + i
            books[U(b + OPEN)] = held
        slots[U(i)] = mark
    return n


@nb.njit(
    nb.void(
        _RO, _I8, nb.int64, nb.int64, nb.int64, _U4, _U4, _I8, _I8, _I8, _I8, _U4, _I8, _U4, _I8, _U4, _U4, _I8, _I8,
        _I4, _U4, _I8, _I8, _I8, _I8,
    ),
    cache=True, nogil=True,
)  # fmt: skip
def run(
    words: Any, carried: Any, first: Any, synthetic: Any, mode: Any, slots: Any, held: Any, meta: Any, books: Any,
    table: Any, orders: Any, orders4: Any, levels: Any, levels4: Any, chunks: Any, chunk_n: Any, dirs: Any,
    fills: Any, dirty: Any, graves: Any, touched: Any, bbo: Any, trades: Any, auctions: Any, effects: Any,
) -> None:  # fmt: skip
    """Apply records from meta[POSITION] on; stops early when a pool or an output is full (meta[REASON]).

    The first len(carried) records have the ordinals in `carried`, the others first, first + 1, …; the last `synthetic`
    ones (all with ordinal `first`) stand for the end of the session or a clear: nothing of them is counted.
    """
    n, nc = words.shape[0] // RECORD_WORDS, carried.shape[0]
    policy, everything, with_effects = mode & POLICY_BITS, mode & EVERYTHING, mode & WITH_EFFECTS
    hmask = table.shape[0] // HASH_WORDS - 1
    gmask = graves.shape[0] - 1
    seed, seed2 = U(meta[SEED]), U(meta[SEED2])
    batch = meta[BATCH]
    deep = hmask + 1 >= DEEP_HASH_ENTRIES
    many = meta[BOOKS_USED] > MANY_BOOKS
    table_at, orders_at, levels_at = I(table.ctypes.data), I(orders.ctypes.data), I(levels.ctypes.data)
    books_at, chunks_at = I(books.ctypes.data), I(chunks.ctypes.data)
    order_cap, level_cap = orders.shape[0] // ORDER_WORDS, levels.shape[0] // LEVEL_WORDS
    chunk_cap, dir_cap = chunk_n.shape[0], dirs.shape[0]
    dn = meta[DIRTY]
    out_bbo, out_trades, out_auctions = meta[BBO_ROWS], meta[TRADE_ROWS], meta[AUCTION_ROWS]
    out_effects = meta[EFFECT_ROWS]
    k = meta[POSITION]
    meta[REASON] = DONE

    # Each record makes at most one row of a kind, so this many fit for sure.
    stop = n
    stop = min(stop, k + bbo.shape[0] // 9 - out_bbo)
    stop = min(stop, k + trades.shape[0] // 7 - out_trades)
    stop = min(stop, k + auctions.shape[0] // 11 - out_auctions)
    if with_effects:
        stop = min(stop, k + effects.shape[0] // 4 - out_effects)
    if stop < n:
        meta[REASON] = OUTPUT_FULL
    # No level is in the dirty list twice, so it cannot get longer than the levels there are and two a record.
    live_levels = meta[LEVELS_USED] - meta[LEVELS_FREE]
    if everything and dirty.shape[0] // DIRTY_WORDS < live_levels + dn + 2 * (stop - k) + 2:
        meta[REASON] = DIRTY_FULL
        return
    room = 0

    while k < stop:
        p = k * RECORD_WORDS
        mark = I(slots[U(k)])
        slot = mark & SLOT
        ends = mark & ENDS
        b = slot * BOOK_WORDS
        o = carried[U(k)] if k < nc else first + (k - nc)
        fake = k >= n - synthetic
        if fake:
            o = first

        # --- prefetch what records further on will touch ---------------------------------------------------------
        if many and k + 12 < n:
            line = books_at + I(slots[U(k + 12)] & U(SLOT)) * (BOOK_WORDS * 8)
            prefetch(line)
            prefetch(line + 64)
            prefetch(line + 128)
            prefetch(line + 192)
            ahead = I(slots[U(k + 6)] & U(SLOT)) * BOOK_WORDS + SIDE
            if (words[U((k + 6) * RECORD_WORDS + 4)] >> U(56)) == U(SIDE_ASK):
                ahead += 4
            top = books[U(ahead + CHUNK)] * CAP + books[U(ahead + LEVELS_IN)]
            prefetch(chunks_at + top * (ENTRY_WORDS * 8) - 16)
            prefetch(chunks_at + top * (ENTRY_WORDS * 8) - 80)
            prefetch(chunks_at + top * (ENTRY_WORDS * 8) - 144)
            # The level an A joins, then the order it will stand behind.
            q = (k + 4) * RECORD_WORDS
            which = 1 if (words[U(q + 4)] >> U(56)) == U(SIDE_ASK) else 0
            ahead = I(slots[U(k + 4)] & U(SLOT)) * BOOK_WORDS + SIDE + 4 * which
            at = books[U(ahead + CHUNK)] * CAP
            top = books[U(ahead + LEVELS_IN)]
            key, lv = I(words[U(q + 3)]) ^ -which, 0
            if top:
                prefetch(levels_at + chunks[U((at + top - 1) * ENTRY_WORDS + 1)] * (LEVEL_WORDS * 8))
            for j in range(at + top - 1, at + max(0, top - 12) - 1, -1):
                if chunks[U(j * ENTRY_WORDS)] <= key:
                    if chunks[U(j * ENTRY_WORDS)] == key:
                        lv = chunks[U(j * ENTRY_WORDS + 1)]
                        prefetch(levels_at + lv * (LEVEL_WORDS * 8))
                    break
            meta[U(SOON + (k + 4 & 7))] = lv
            lv = meta[U(SOON + (k + 2 & 7))]
            prefetch(orders_at + I(levels4[U(lv * 8 + L_TAIL)]) * (ORDER_WORDS * 8))
        if deep and k + 12 < n:
            q = (k + 12) * RECORD_WORDS
            x = fold(words[U(q + 2)] ^ seed, seed2 + U(slots[U(k + 12)] & U(SLOT)) * _MIX)
            prefetch(table_at + (I(x) & hmask) * (HASH_WORDS * 8))
            q = (k + 8) * RECORD_WORDS
            x = fold(words[U(q + 2)] ^ seed, seed2 + U(slots[U(k + 8)] & U(SLOT)) * _MIX)
            e = table[U((I(x) & hmask) * HASH_WORDS + 1)] & 0xFFFF_FFFF
            prefetch(orders_at + e * (ORDER_WORDS * 8))
            q = (k + 4) * RECORD_WORDS
            x = fold(words[U(q + 2)] ^ seed, seed2 + U(slots[U(k + 4)] & U(SLOT)) * _MIX)
            e = table[U((I(x) & hmask) * HASH_WORDS + 1)] & 0xFFFF_FFFF
            if e:
                prefetch(orders_at + I(orders4[U(e * 8 + O_PREV)]) * (ORDER_WORDS * 8))
                prefetch(orders_at + I(orders4[U(e * 8 + O_NEXT)]) * (ORDER_WORDS * 8))
                prefetch(levels_at + I(orders4[U(e * 8 + O_LEVEL)] >> U(2)) * (LEVEL_WORDS * 8))

        # --- held back -------------------------------------------------------------------------------------------
        if o > books[U(b + APPLY)] and not fake:
            held[U(meta[HELD])] = k
            meta[HELD] += 1
            k += 1
            continue

        # --- room in the pools: a record takes at most one order, one level and two chunks -----------------------
        if room <= 0:
            room = order_cap - meta[ORDERS_USED] + meta[ORDERS_FREE]
            room = min(room, level_cap - meta[LEVELS_USED] + meta[LEVELS_FREE])
            room = min(room, (chunk_cap - meta[CHUNKS_USED] + meta[CHUNKS_FREE]) // 2)
            room = min(room, (hmask >> 1) - meta[HASHED])
            if room <= 0 or dir_cap - meta[DIRS_USED] < (DIR_FIRST << (meta[DIR_CLASS] + 1)):
                meta[REASON] = POOLS_FULL
                break
        room -= 1

        tail = I(words[U(p + 4)])
        size, flags = tail & 0xFFFF_FFFF, (tail >> 32) & 0xFF
        action, letter = (tail >> 48) & 0xFF, (tail >> 56) & 0xFF
        oid, px = I(words[U(p + 2)]), I(words[U(p + 3)])
        side = 0 if letter == SIDE_BID else 1 if letter == SIDE_ASK else 2
        flip = -(side & 1)  # ~price of an ask: on both sides the best level has the largest key
        state = books[U(b + STATE)]
        counts = b + COUNTS

        if not fake:
            books[U(b + RECORDS)] += 1
            books[U(b + TS_EVENT)] = I(words[U(p + 1)])
            books[U(b + TS_RECV)] = I(words[U(p + 5)])
        books[U(b + ORDINAL)] = o

        if (flags & F_SNAPSHOT or mark & ENTERS) and not state & IN_SNAPSHOT:
            if state & FILLED:
                meta[EVENT] += 1
                books[U(b + EVENT_NO)] = meta[EVENT]
            state = IN_SNAPSHOT | (state & (MET | MOVED | BEST | BEST << 1))
            # What this batch has touched in the book is published as it stands now: at its last event end.
            for i in range(dn):
                owner = dirty[U(i * 4 + 1)]
                if owner >> 1 == slot:
                    lv = dirty[U(i * 4 + 2)]
                    dirty[U(i * 4 + 1)] = -2 - owner
                    dirty[U(i * 4 + 2)] = 0
                    if lv:
                        dirty[U(i * 4 + 2)] = levels[U(lv * LEVEL_WORDS + 1)]
                        dirty[U(i * 4 + 3)] |= I(levels4[U(lv * 8 + L_COUNT)]) << 32
                        levels4[U(lv * 8 + L_DIRTY)] = 0
                    meta[EARLY] += 1
        if flags & F_SNAPSHOT:
            # What was held before a snapshot ends with its first record.
            chain = books[U(b + TRADES)]
            if chain:
                while chain:
                    at = (chain - 1) * 7 + 1
                    chain = trades[U(at)]
                    trades[U(at)] = o
                books[U(b + TRADES)] = 0
                meta[OPEN_TRADES] -= 1
            chain = books[U(b + EFFECTS)]
            while chain:
                at = (chain - 1) * 4 + 1
                chain = effects[U(at)]
                effects[U(at)] = o
            books[U(b + EFFECTS)] = 0
            if books[U(b + FLAGS)] & BOOK_OPEN:
                books[U(b + FLAGS)] &= ~BOOK_OPEN
                if books[U(b + TOUCHED)] != batch:
                    books[U(b + TOUCHED)] = batch
                    touched[U(meta[TOUCHED_BOOKS])] = slot
                    meta[TOUCHED_BOOKS] += 1

        # --- what the record wants -------------------------------------------------------------------------------
        effect, before, after, why = EFFECT_NONE, 0, 0, 0
        purpose, bulk, bulk_level, left = NOTHING, 0, 0, 0
        gone, keep, resized, to_size = 0, False, 0, 0  # an order to unlink, one to make smaller
        idx, hp, new_size, aggregate = 0, 0, 0, 0  # new_size > 0: an order to add
        drop_key, drop_side = 0, 0

        special = flags & _TOP_OR_LEVEL and (
            action == ACTION_ADD or action == ACTION_CANCEL or action == ACTION_MODIFY
        )
        if special:
            if side == 2:
                why = BAD_SIDE
                books[U(counts + why)] += 1
            elif action == ACTION_CANCEL:
                purpose = AGGREGATE_CANCEL
            elif flags & F_TOB:
                effect = EFFECT_REPLACED
                bulk = ONE_SIDE
                new_size = 0 if px == _UNDEF else size
                after, aggregate = new_size, 1
            elif px == _UNDEF:
                why = UNDEFINED_PRICE
                books[U(counts + why)] += 1
            else:
                effect, after = EFFECT_REPLACED, size
                purpose, aggregate = AGGREGATE_SET, 1
        elif (
            action == ACTION_ADD or action == ACTION_CANCEL or action == ACTION_MODIFY
            or action == ACTION_FILL
        ):  # fmt: skip
            tag = slot + 1
            hp = I(fold(U(oid) ^ seed, seed2 + U(slot) * _MIX)) & hmask
            while True:
                e = table[U(hp * HASH_WORDS + 1)]
                if e == 0:
                    break
                if (e >> 32) == tag and table[U(hp * HASH_WORDS)] == oid:
                    idx = e & 0xFFFF_FFFF
                    break
                hp = (hp + 1) & hmask
            where = I(orders4[U(idx * 8 + O_LEVEL)])
            executed = idx != 0 and where == O_EXECUTED
            live = idx != 0 and not executed
            had = I(orders4[U(idx * 8 + O_SIZE)])

            if action == ACTION_ADD:
                if side == 2:
                    why = BAD_SIDE
                elif px == _UNDEF:
                    why = UNDEFINED_PRICE
                elif size == 0:
                    why = ZERO_SIZE
                else:
                    effect, new_size, after = EFFECT_ADDED, size, size
                    gone, keep = idx, True
                    if live:
                        effect, before, why = EFFECT_REPLACED, had, DUPLICATE_ADD
                if why:
                    books[U(counts + why)] += 1
            elif action == ACTION_CANCEL:
                if not live:
                    why = EXECUTED_ORDER if executed else UNKNOWN_CANCEL
                    books[U(counts + why)] += 1
                    gone = idx
                elif size == 0:
                    before, after, why = had, had, ZERO_SIZE
                    books[U(counts + why)] += 1
                else:
                    before = had
                    if side != (where & 1):
                        why = SIDE_MISMATCH
                        books[U(counts + why)] += 1
                    if px != levels[U((where >> 2) * LEVEL_WORDS)] ^ -(where & 1):
                        books[U(counts + PRICE_MISMATCH)] += 1
                        if not why:
                            why = PRICE_MISMATCH
                    if size > had:
                        books[U(counts + OVERSIZE_CANCEL)] += 1
                        if not why:
                            why = OVERSIZE_CANCEL
                    if size >= had:
                        effect, gone = EFFECT_REMOVED, idx
                    else:
                        effect, resized, to_size = EFFECT_REDUCED, idx, had - size
                        after = to_size
            elif action == ACTION_MODIFY:
                if side == 2 or px == _UNDEF:
                    why = BAD_SIDE if side == 2 else UNDEFINED_PRICE
                    books[U(counts + why)] += 1
                elif not live:
                    why = EXECUTED_ORDER if executed else UNKNOWN_MODIFY
                    books[U(counts + why)] += 1
                    gone = idx
                    if size == 0:
                        books[U(counts + ZERO_SIZE)] += 1
                    else:
                        effect, new_size, after, keep = EFFECT_ADDED, size, size, True
                else:
                    before, after = had, size
                    if side != (where & 1):
                        why = SIDE_MISMATCH
                        books[U(counts + why)] += 1
                    if size == 0:
                        books[U(counts + ZERO_SIZE)] += 1
                        if not why:
                            why = ZERO_SIZE
                        effect, gone = EFFECT_REMOVED, idx
                    elif why or size > had or px != levels[U((where >> 2) * LEVEL_WORDS)] ^ -(where & 1):
                        effect, gone, keep, new_size = EFFECT_MOVED, idx, True, size
                    elif size < had:
                        effect, resized, to_size = EFFECT_REDUCED, idx, size
                    elif state & FILLED and fills[U(idx)] == books[U(b + EVENT_NO)]:
                        why = REFILL
                        books[U(counts + why)] += 1
            else:  # F: names an order, changes nothing
                if live:
                    before, after = had, had
                    if not state & IN_SNAPSHOT:
                        fills[U(idx)] = books[U(b + EVENT_NO)]
                        state |= FILLED
                else:
                    why = EXECUTED_ORDER if executed else UNKNOWN_FILL
                    books[U(counts + why)] += 1
        elif action == ACTION_TRADE:
            if px == _UNDEF:
                why = UNDEFINED_PRICE
            elif size == 0:
                why = ZERO_SIZE
            elif flags & F_SNAPSHOT:
                why = SNAPSHOT_TRADE
            else:
                books[U(b + LAST_PX)] = px
                state |= MOVED
                if everything:
                    at = out_trades * 7
                    out_trades += 1
                    if not books[U(b + TRADES)]:
                        meta[OPEN_TRADES] += 1
                        if meta[OPEN_TRADES] > 1:
                            meta[INTERLEAVED] = 1
                    trades[U(at)] = o
                    trades[U(at + 1)] = books[U(b + TRADES)]
                    trades[U(at + 2)] = I(words[U(p + 1)])
                    trades[U(at + 3)] = I(words[U(p + 5)])
                    trades[U(at + 4)] = px
                    head = books[U(b + HEAD)]
                    trades[U(at + 5)] = size | (head << 32)
                    trades[U(at + 6)] = (
                        I(words[U(p + 6)] >> U(32))
                        | (head & 0xFFFF_0000_0000)
                        | (letter << 48)
                        | (flags << 56)
                    )
                    books[U(b + TRADES)] = out_trades
            if why:
                books[U(counts + why)] += 1
        elif action == ACTION_CLEAR:
            effect, bulk = EFFECT_CLEARED, BOTH_SIDES
            state &= ~MAYBE_BAD
        elif action != ACTION_NONE:
            why = BAD_ACTION
            books[U(counts + why)] += 1

        # --- do it -----------------------------------------------------------------------------------------------
        uncrossed = False
        while True:
            # -- remove many orders: a side, both, one level, or what the uncrossing executes
            if bulk:
                state |= MOVED | BEST | BEST << 1
                bs = side if bulk == ONE_SIDE or bulk == ONE_LEVEL else 0
                quota = left
                while True:
                    sb = b + SIDE + 4 * bs
                    top = books[U(sb + LEVELS_IN)]
                    if bulk != ONE_LEVEL and (top == 0 or (bulk == EXECUTE and left == 0)):
                        if bulk == ONE_SIDE or bs == 1:
                            break
                        bs, left = 1, quota
                        continue
                    chunk = books[U(sb + CHUNK)]
                    lv = bulk_level
                    if bulk != ONE_LEVEL:
                        lv = chunks[U((chunk * CAP + top - 1) * ENTRY_WORDS + 1)]
                    if everything and levels4[U(lv * 8 + L_DIRTY)] == 0:
                        dirty[U(dn * 4)] = levels[U(lv * LEVEL_WORDS)]
                        dirty[U(dn * 4 + 1)] = slot << 1 | bs
                        dirty[U(dn * 4 + 2)] = lv
                        dirty[U(dn * 4 + 3)] = 0
                        dn += 1
                        levels4[U(lv * 8 + L_DIRTY)] = dn
                    cur = I(levels4[U(lv * 8 + L_HEAD)])
                    while cur:
                        had = I(orders4[U(cur * 8 + O_SIZE)])
                        if bulk == EXECUTE:
                            if left == 0:
                                break
                            if had > left:
                                orders4[U(cur * 8 + O_SIZE)] = had - left
                                levels[U(lv * LEVEL_WORDS + 1)] -= left
                                left = 0
                                break
                            left -= had
                        follower = I(orders4[U(cur * 8 + O_NEXT)])
                        if state & FILLED:
                            fills[U(cur)] = 0
                        levels[U(lv * LEVEL_WORDS + 1)] -= had
                        levels4[U(lv * 8 + L_COUNT)] -= U(1)
                        is_aggregate = I(orders4[U(cur * 8 + O_LEVEL)]) & 2
                        if bulk == EXECUTE and not is_aggregate:
                            other = books[U(b + EXECUTED)]
                            orders4[U(cur * 8 + O_LEVEL)] = O_EXECUTED
                            orders4[U(cur * 8 + O_PREV)] = 0
                            orders4[U(cur * 8 + O_NEXT)] = other
                            if other:
                                orders4[U(other * 8 + O_PREV)] = cur
                            books[U(b + EXECUTED)] = cur
                            books[U(b + EXECUTED_COUNT)] += 1
                            meta[EXECUTED_ORDERS] += 1
                        else:
                            if not is_aggregate:
                                old = orders[U(cur * ORDER_WORDS)]
                                h = I(fold(U(old) ^ seed, seed2 + U(slot) * _MIX)) & hmask
                                while (table[U(h * 2 + 1)] & 0xFFFF_FFFF) != cur:
                                    h = (h + 1) & hmask
                                j = h
                                while True:
                                    j = (j + 1) & hmask
                                    e = table[U(j * 2 + 1)]
                                    if e == 0:
                                        break
                                    x = fold(U(table[U(j * 2)]) ^ seed, seed2 + U((e >> 32) - 1) * _MIX)
                                    if ((j - (I(x) & hmask)) & hmask) >= ((j - h) & hmask):
                                        table[U(h * 2)] = table[U(j * 2)]
                                        table[U(h * 2 + 1)] = e
                                        h = j
                                table[U(h * 2 + 1)] = 0
                                meta[HASHED] -= 1
                            orders4[U(cur * 8 + O_NEXT)] = meta[ORDER_FREE]
                            meta[ORDER_FREE] = cur
                            meta[ORDERS_FREE] += 1
                        cur = follower
                    levels4[U(lv * 8 + L_HEAD)] = cur
                    if cur:
                        orders4[U(cur * 8 + O_PREV)] = 0
                        continue  # EXECUTE: this side is done
                    levels4[U(lv * 8 + L_TAIL)] = 0
                    if bulk == ONE_LEVEL:
                        break
                    # the level goes: it is the last of the top chunk
                    at = I(levels4[U(lv * 8 + L_DIRTY)])
                    if at:
                        dirty[U(at * 4 - 2)] = 0
                        if dirty[U(at * 4 - 1)] == 0:
                            key = levels[U(lv * LEVEL_WORDS)]
                            x = fold(U(key) ^ seed, seed2 + U(slot << 1 | bs) * _MIX)
                            h = I(x) & gmask
                            while graves[U(h)]:
                                h = (h + 1) & gmask
                            graves[U(h)] = at
                            dirty[U(at * 4 - 1)] = h + 1
                            meta[GRAVES] += 1
                    levels4[U(lv * 8 + L_HEAD)] = meta[LEVEL_FREE]
                    meta[LEVEL_FREE] = lv
                    meta[LEVELS_FREE] += 1
                    books[U(b + LEVELS + bs)] -= 1
                    top -= 1
                    if top == 0 and books[U(sb + CHUNKS)] > 1:
                        chunk_n[U(chunk)] = meta[CHUNK_FREE]
                        meta[CHUNK_FREE] = chunk
                        meta[CHUNKS_FREE] += 1
                        books[U(sb + CHUNKS)] -= 1
                        chunk = I(dirs[U((books[U(sb + DIR)] >> 8) + books[U(sb + CHUNKS)] - 1)])
                        books[U(sb + CHUNK)] = chunk
                        top = I(chunk_n[U(chunk)])
                    books[U(sb + LEVELS_IN)] = top
                if bulk == BOTH_SIDES:
                    cur = books[U(b + EXECUTED)]
                    while cur:
                        follower = I(orders4[U(cur * 8 + O_NEXT)])
                        old = orders[U(cur * ORDER_WORDS)]
                        h = I(fold(U(old) ^ seed, seed2 + U(slot) * _MIX)) & hmask
                        while (table[U(h * 2 + 1)] & 0xFFFF_FFFF) != cur:
                            h = (h + 1) & hmask
                        j = h
                        while True:
                            j = (j + 1) & hmask
                            e = table[U(j * 2 + 1)]
                            if e == 0:
                                break
                            x = fold(U(table[U(j * 2)]) ^ seed, seed2 + U((e >> 32) - 1) * _MIX)
                            if ((j - (I(x) & hmask)) & hmask) >= ((j - h) & hmask):
                                table[U(h * 2)] = table[U(j * 2)]
                                table[U(h * 2 + 1)] = e
                                h = j
                        table[U(h * 2 + 1)] = 0
                        meta[HASHED] -= 1
                        meta[EXECUTED_ORDERS] -= 1
                        orders4[U(cur * 8 + O_NEXT)] = meta[ORDER_FREE]
                        meta[ORDER_FREE] = cur
                        meta[ORDERS_FREE] += 1
                        cur = follower
                    books[U(b + EXECUTED)] = 0
                    books[U(b + EXECUTED_COUNT)] = 0
                bulk = 0

            # -- make an order smaller where it stands
            if resized:
                lv = I(orders4[U(resized * 8 + O_LEVEL)] >> U(2))
                ls = I(orders4[U(resized * 8 + O_LEVEL)]) & 1
                key = levels[U(lv * LEVEL_WORDS)]
                if key >= books[U(b + BBO + 3 * ls)] ^ -ls or books[U(b + BBO + 3 * ls + 2)] == 0:
                    state |= BEST << ls
                if state & MET and key >= books[U(b + BOUND + ls)]:
                    state |= MOVED
                levels[U(lv * LEVEL_WORDS + 1)] -= I(orders4[U(resized * 8 + O_SIZE)]) - to_size
                orders4[U(resized * 8 + O_SIZE)] = to_size
                if everything and levels4[U(lv * 8 + L_DIRTY)] == 0:
                    dirty[U(dn * 4)] = levels[U(lv * LEVEL_WORDS)]
                    dirty[U(dn * 4 + 1)] = slot << 1 | I(orders4[U(resized * 8 + O_LEVEL)]) & 1
                    dirty[U(dn * 4 + 2)] = lv
                    dirty[U(dn * 4 + 3)] = 0
                    dn += 1
                    levels4[U(lv * 8 + L_DIRTY)] = dn
                resized = 0

            # -- take an order out of its queue; unless it is kept (to be placed again), out of the table too
            if gone:
                at = I(orders4[U(gone * 8 + O_LEVEL)])
                ahead, behind = I(orders4[U(gone * 8 + O_PREV)]), I(orders4[U(gone * 8 + O_NEXT)])
                if at == O_EXECUTED:
                    if ahead:
                        orders4[U(ahead * 8 + O_NEXT)] = behind
                    else:
                        books[U(b + EXECUTED)] = behind
                    if behind:
                        orders4[U(behind * 8 + O_PREV)] = ahead
                    books[U(b + EXECUTED_COUNT)] -= 1
                    meta[EXECUTED_ORDERS] -= 1
                else:
                    lv = at >> 2
                    if ahead:
                        orders4[U(ahead * 8 + O_NEXT)] = behind
                    else:
                        levels4[U(lv * 8 + L_HEAD)] = behind
                    if behind:
                        orders4[U(behind * 8 + O_PREV)] = ahead
                    else:
                        levels4[U(lv * 8 + L_TAIL)] = ahead
                    ls = at & 1
                    key = levels[U(lv * LEVEL_WORDS)]
                    if key >= books[U(b + BBO + 3 * ls)] ^ -ls or books[U(b + BBO + 3 * ls + 2)] == 0:
                        state |= BEST << ls
                    if state & MET and key >= books[U(b + BOUND + ls)]:
                        state |= MOVED
                    if state & FILLED:
                        fills[U(gone)] = 0
                    levels[U(lv * LEVEL_WORDS + 1)] -= I(orders4[U(gone * 8 + O_SIZE)])
                    levels4[U(lv * 8 + L_COUNT)] -= U(1)
                    if everything and levels4[U(lv * 8 + L_DIRTY)] == 0:
                        dirty[U(dn * 4)] = levels[U(lv * LEVEL_WORDS)]
                        dirty[U(dn * 4 + 1)] = slot << 1 | at & 1
                        dirty[U(dn * 4 + 2)] = lv
                        dirty[U(dn * 4 + 3)] = 0
                        dn += 1
                        levels4[U(lv * 8 + L_DIRTY)] = dn
                    if levels4[U(lv * 8 + L_COUNT)] == 0:
                        purpose, drop_key, drop_side = DROP, levels[U(lv * LEVEL_WORDS)], at & 1
                if not keep:
                    if at == O_EXECUTED or not at & 2:
                        h = hp
                        j = h
                        while True:
                            j = (j + 1) & hmask
                            e = table[U(j * 2 + 1)]
                            if e == 0:
                                break
                            x = fold(U(table[U(j * 2)]) ^ seed, seed2 + U((e >> 32) - 1) * _MIX)
                            if ((j - (I(x) & hmask)) & hmask) >= ((j - h) & hmask):
                                table[U(h * 2)] = table[U(j * 2)]
                                table[U(h * 2 + 1)] = e
                                h = j
                        table[U(h * 2 + 1)] = 0
                        meta[HASHED] -= 1
                    orders4[U(gone * 8 + O_NEXT)] = meta[ORDER_FREE]
                    meta[ORDER_FREE] = gone
                    meta[ORDERS_FREE] += 1
                gone = 0

            if purpose == NOTHING and new_size:
                purpose = ADD

            # -- find the level of a key: from the top of the side for 8 levels, then binary
            if purpose:
                ls = drop_side if purpose == DROP else side
                want = drop_key if purpose == DROP else px ^ flip
                sb = b + SIDE + 4 * ls
                chunk, top = books[U(sb + CHUNK)], books[U(sb + LEVELS_IN)]
                nchunks = books[U(sb + CHUNKS)]
                place = nchunks - 1  # of the chunk in the directory
                base = chunk * CAP
                if nchunks > 1 and want < chunks[U(base * ENTRY_WORDS)]:
                    directory = books[U(sb + DIR)] >> 8
                    lower, upper = 0, nchunks - 1
                    while upper - lower > 1:
                        middle = (lower + upper) >> 1
                        if chunks[U(I(dirs[U(directory + middle)]) * (CAP * ENTRY_WORDS))] <= want:
                            lower = middle
                        else:
                            upper = middle
                    place = lower
                    chunk = I(dirs[U(directory + place)])
                    top = I(chunk_n[U(chunk)])
                    base = chunk * CAP
                pos = top  # of the first level with a larger key
                stop_at = max(0, top - 8)
                while pos > stop_at and chunks[U((base + pos - 1) * ENTRY_WORDS)] > want:
                    pos -= 1
                if pos == stop_at and pos > 0 and chunks[U((base + pos - 1) * ENTRY_WORDS)] > want:
                    lower, upper = 0, pos
                    while lower < upper:
                        middle = (lower + upper) >> 1
                        if chunks[U((base + middle) * ENTRY_WORDS)] > want:
                            upper = middle
                        else:
                            lower = middle + 1
                    pos = lower
                lv = 0
                if pos > 0 and chunks[U((base + pos - 1) * ENTRY_WORDS)] == want:
                    lv = chunks[U((base + pos - 1) * ENTRY_WORDS + 1)]

                if purpose == ADD:
                    if want >= books[U(b + BBO + 3 * ls)] ^ -ls or books[U(b + BBO + 3 * ls + 2)] == 0:
                        state |= BEST << ls
                    if state & MET and want >= books[U(b + BOUND + ls)]:
                        state |= MOVED
                    purpose = NOTHING
                    # -- a new level
                    if lv == 0:
                        lv = meta[LEVEL_FREE]
                        if lv:
                            meta[LEVEL_FREE] = I(levels4[U(lv * 8 + L_HEAD)])
                            meta[LEVELS_FREE] -= 1
                        else:
                            lv = meta[LEVELS_USED]
                            meta[LEVELS_USED] += 1
                        levels[U(lv * LEVEL_WORDS)] = want
                        levels[U(lv * LEVEL_WORDS + 1)] = 0
                        levels[U(lv * LEVEL_WORDS + 2)] = 0  # count, head
                        levels[U(lv * LEVEL_WORDS + 3)] = 0  # tail, dirty
                        books[U(b + LEVELS + ls)] += 1
                        if meta[GRAVES]:
                            x = fold(U(want) ^ seed, seed2 + U(slot << 1 | ls) * _MIX)
                            h = I(x) & gmask
                            while graves[U(h)]:
                                at = I(graves[U(h)])
                                if dirty[U(at * 4 - 4)] == want and dirty[U(at * 4 - 3)] == slot << 1 | ls:
                                    dirty[U(at * 4 - 2)] = lv
                                    levels4[U(lv * 8 + L_DIRTY)] = at
                                    break
                                h = (h + 1) & gmask
                        if nchunks == 0:
                            chunk = meta[CHUNK_FREE]
                            if chunk:
                                meta[CHUNK_FREE] = I(chunk_n[U(chunk)])
                                meta[CHUNKS_FREE] -= 1
                            else:
                                chunk = meta[CHUNKS_USED]
                                meta[CHUNKS_USED] += 1
                            books[U(sb + CHUNK)] = chunk
                            books[U(sb + CHUNKS)] = 1
                            nchunks, place, base = 1, 0, chunk * CAP
                        elif top == CAP:
                            # -- a full chunk: its upper half becomes the next one
                            half = meta[CHUNK_FREE]
                            if half:
                                meta[CHUNK_FREE] = I(chunk_n[U(half)])
                                meta[CHUNKS_FREE] -= 1
                            else:
                                half = meta[CHUNKS_USED]
                                meta[CHUNKS_USED] += 1
                            a, c = (base + CAP // 2) * ENTRY_WORDS, half * (CAP * ENTRY_WORDS)
                            for j in range(CAP // 2 * ENTRY_WORDS):
                                chunks[U(c + j)] = chunks[U(a + j)]
                            directory = books[U(sb + DIR)] >> 8
                            klass = (books[U(sb + DIR)] & 0xFF) - 1
                            if klass < 0 or nchunks == DIR_FIRST << klass:
                                # -- a larger directory
                                klass += 1
                                fresh = meta[U(DIR_FREE + klass)] - 1
                                if fresh >= 0:
                                    meta[U(DIR_FREE + klass)] = I(dirs[U(fresh)])
                                else:
                                    fresh = meta[DIRS_USED]
                                    meta[DIRS_USED] += DIR_FIRST << klass
                                    meta[DIR_CLASS] = max(meta[DIR_CLASS], klass)
                                if klass == 0:
                                    dirs[U(fresh)] = chunk
                                else:
                                    for j in range(nchunks):
                                        dirs[U(fresh + j)] = dirs[U(directory + j)]
                                    dirs[U(directory)] = meta[U(DIR_FREE + klass - 1)]
                                    meta[U(DIR_FREE + klass - 1)] = directory + 1
                                directory = fresh
                                books[U(sb + DIR)] = directory << 8 | (klass + 1)
                                room = 0
                            for j in range(directory + nchunks, directory + place + 1, -1):
                                dirs[U(j)] = dirs[U(j - 1)]
                            dirs[U(directory + place + 1)] = half
                            chunk_n[U(chunk)] = CAP // 2
                            chunk_n[U(half)] = CAP // 2
                            if place == nchunks - 1:
                                books[U(sb + CHUNK)] = half
                                books[U(sb + LEVELS_IN)] = CAP // 2
                            nchunks += 1
                            books[U(sb + CHUNKS)] = nchunks
                            top = I(CAP // 2)
                            if pos > CAP // 2:
                                chunk, place, pos = half, place + 1, pos - CAP // 2
                                base = chunk * CAP
                        for j in range((base + top) * 2 - 1, (base + pos) * 2 - 1, -1):
                            chunks[U(j + 2)] = chunks[U(j)]
                        chunks[U((base + pos) * 2)] = want
                        chunks[U((base + pos) * 2 + 1)] = lv
                        if place == nchunks - 1:
                            books[U(sb + LEVELS_IN)] = top + 1
                        else:
                            chunk_n[U(chunk)] = top + 1
                    if everything and levels4[U(lv * 8 + L_DIRTY)] == 0:
                        dirty[U(dn * 4)] = want
                        dirty[U(dn * 4 + 1)] = slot << 1 | ls
                        dirty[U(dn * 4 + 2)] = lv
                        dirty[U(dn * 4 + 3)] = 0
                        dn += 1
                        levels4[U(lv * 8 + L_DIRTY)] = dn
                    # -- the order, at the back of its queue
                    if idx == 0:
                        idx = meta[ORDER_FREE]
                        if idx:
                            meta[ORDER_FREE] = I(orders4[U(idx * 8 + O_NEXT)])
                            meta[ORDERS_FREE] -= 1
                        else:
                            idx = meta[ORDERS_USED]
                            meta[ORDERS_USED] += 1
                        if not aggregate:
                            table[U(hp * 2)] = oid
                            table[U(hp * 2 + 1)] = idx | (slot + 1) << 32
                            meta[HASHED] += 1
                    ahead = I(levels4[U(lv * 8 + L_TAIL)])
                    orders[U(idx * ORDER_WORDS)] = oid
                    orders[U(idx * ORDER_WORDS + 1)] = I(words[U(p + 1)])
                    orders4[U(idx * 8 + O_SIZE)] = new_size
                    orders4[U(idx * 8 + O_LEVEL)] = lv << 2 | aggregate << 1 | ls
                    orders4[U(idx * 8 + O_PREV)] = ahead
                    orders4[U(idx * 8 + O_NEXT)] = 0
                    levels4[U(lv * 8 + L_TAIL)] = idx
                    if ahead:
                        orders4[U(ahead * 8 + O_NEXT)] = idx
                    else:
                        levels4[U(lv * 8 + L_HEAD)] = idx
                    levels[U(lv * LEVEL_WORDS + 1)] += new_size
                    levels4[U(lv * 8 + L_COUNT)] += U(1)
                    new_size = 0
                elif purpose == DROP:
                    # -- an empty level goes
                    purpose = NOTHING
                    at = I(levels4[U(lv * 8 + L_DIRTY)])
                    if at:
                        dirty[U(at * 4 - 2)] = 0
                        if dirty[U(at * 4 - 1)] == 0:
                            x = fold(U(want) ^ seed, seed2 + U(slot << 1 | ls) * _MIX)
                            h = I(x) & gmask
                            while graves[U(h)]:
                                h = (h + 1) & gmask
                            graves[U(h)] = at
                            dirty[U(at * 4 - 1)] = h + 1
                            meta[GRAVES] += 1
                    levels4[U(lv * 8 + L_HEAD)] = meta[LEVEL_FREE]
                    meta[LEVEL_FREE] = lv
                    meta[LEVELS_FREE] += 1
                    books[U(b + LEVELS + ls)] -= 1
                    for j in range((base + pos) * 2, (base + top) * 2):
                        chunks[U(j - 2)] = chunks[U(j)]
                    top -= 1
                    if place == nchunks - 1:
                        books[U(sb + LEVELS_IN)] = top
                    else:
                        chunk_n[U(chunk)] = top
                    if nchunks > 1 and top < CAP // 4:
                        # -- a nearly empty chunk joins a neighbour, so that a directory stays short
                        directory = books[U(sb + DIR)] >> 8
                        chunk_n[U(books[U(sb + CHUNK)])] = books[U(sb + LEVELS_IN)]
                        mate = place - 1 if place else 0
                        into, source = I(dirs[U(directory + mate)]), I(dirs[U(directory + mate + 1)])
                        na, nz = I(chunk_n[U(into)]), I(chunk_n[U(source)])
                        if (
                            na + nz <= CAP // 2 or na == 0 or nz == 0
                        ):  # an empty chunk must not stay: see bulk
                            a, c = (into * CAP + na) * 2, source * (CAP * 2)
                            for j in range(nz * 2):
                                chunks[U(a + j)] = chunks[U(c + j)]
                            chunk_n[U(into)] = na + nz
                            chunk_n[U(source)] = meta[CHUNK_FREE]
                            meta[CHUNK_FREE] = source
                            meta[CHUNKS_FREE] += 1
                            nchunks -= 1
                            for j in range(directory + mate + 1, directory + nchunks):
                                dirs[U(j)] = dirs[U(j + 1)]
                            books[U(sb + CHUNKS)] = nchunks
                            chunk = I(dirs[U(directory + nchunks - 1)])
                            books[U(sb + CHUNK)] = chunk
                            books[U(sb + LEVELS_IN)] = I(chunk_n[U(chunk)])
                elif purpose == AGGREGATE_SET:
                    # -- all of a level gives way to one sum
                    purpose, new_size = NOTHING, size
                    if lv:
                        bulk, bulk_level = ONE_LEVEL, lv
                        if not size:
                            purpose, drop_key, drop_side = DROP, want, side
                else:  # AGGREGATE_CANCEL
                    purpose = NOTHING
                    cur = I(levels4[U(lv * 8 + L_HEAD)]) if lv else 0
                    if cur == 0 or not orders4[U(cur * 8 + O_LEVEL)] & U(2):
                        why = UNKNOWN_CANCEL
                        books[U(counts + why)] += 1
                    else:
                        before = I(orders4[U(cur * 8 + O_SIZE)])
                        if size == 0:
                            after, why = before, ZERO_SIZE
                            books[U(counts + why)] += 1
                        elif size >= before:
                            effect, gone, keep = EFFECT_REMOVED, cur, False
                            if size > before:
                                why = OVERSIZE_CANCEL
                                books[U(counts + why)] += 1
                        else:
                            effect, resized, to_size = EFFECT_REDUCED, cur, before - size
                            after = to_size
                continue

            # -- policy `execute`: once a record, when it ends an event that leaves the book crossed
            if not ends or policy != EXECUTING or uncrossed or not state & (BEST | BEST << 1):
                break
            uncrossed = True
            sb = b + SIDE
            nb_, na_ = books[U(sb + LEVELS_IN)], books[U(sb + 4 + LEVELS_IN)]
            if nb_ == 0 or na_ == 0:
                break
            cb, ca = books[U(sb + CHUNK)], books[U(sb + 4 + CHUNK)]
            db, da = books[U(sb + CHUNKS)] - 1, books[U(sb + 4 + CHUNKS)] - 1
            jb, ja = nb_ - 1, na_ - 1
            left = 0
            size_b = levels[U(chunks[U((cb * CAP + jb) * 2 + 1)] * LEVEL_WORDS + 1)]
            size_a = levels[U(chunks[U((ca * CAP + ja) * 2 + 1)] * LEVEL_WORDS + 1)]
            while jb >= 0 and ja >= 0 and chunks[U((cb * CAP + jb) * 2)] >= ~chunks[U((ca * CAP + ja) * 2)]:
                step = min(size_b, size_a)
                left += step
                size_b -= step
                size_a -= step
                if size_b == 0:
                    jb -= 1
                    if jb < 0 and db > 0:
                        db -= 1
                        cb = I(dirs[U((books[U(sb + DIR)] >> 8) + db)])
                        jb = I(chunk_n[U(cb)]) - 1
                    if jb >= 0:
                        size_b = levels[U(chunks[U((cb * CAP + jb) * 2 + 1)] * LEVEL_WORDS + 1)]
                if size_a == 0:
                    ja -= 1
                    if ja < 0 and da > 0:
                        da -= 1
                        ca = I(dirs[U((books[U(sb + 4 + DIR)] >> 8) + da)])
                        ja = I(chunk_n[U(ca)]) - 1
                    if ja >= 0:
                        size_a = levels[U(chunks[U((ca * CAP + ja) * 2 + 1)] * LEVEL_WORDS + 1)]
            if left == 0:
                break
            bulk = EXECUTE

        # --- done with the record --------------------------------------------------------------------------------
        if not fake:
            if flags & F_MAYBE_BAD_BOOK:
                state |= MAYBE_BAD
                books[U(counts + MAYBE_BAD_BOOK)] += 1
            if with_effects:
                at = out_effects * 4
                out_effects += 1
                effects[U(at)] = o
                effects[U(at + 1)] = books[U(b + EFFECTS)]
                effects[U(at + 2)] = k | before << 32
                effects[U(at + 3)] = after | effect << 32 | why << 40
                if flags & F_SNAPSHOT:
                    effects[U(at + 1)] = o
                else:
                    books[U(b + EFFECTS)] = out_effects
        elif action == ACTION_NONE:
            books[U(counts + EVENT_UNFINISHED)] += 1

        if not ends:
            if flags & F_SNAPSHOT and not books[U(b + FLAGS)] & BOOK_SNAPSHOT:
                books[U(b + FLAGS)] |= BOOK_SNAPSHOT
                if books[U(b + TOUCHED)] != batch:
                    books[U(b + TOUCHED)] = batch
                    touched[U(meta[TOUCHED_BOOKS])] = slot
                    meta[TOUCHED_BOOKS] += 1
            books[U(b + STATE)] = state
            k += 1
            continue

        # --- the event has ended: what is to be published --------------------------------------------------------
        if state & FILLED:
            meta[EVENT] += 1
            books[U(b + EVENT_NO)] = meta[EVENT]
        state &= MAYBE_BAD | MET | MOVED | BEST | BEST << 1
        chain = books[U(b + TRADES)]
        if chain:
            while chain:
                at = (chain - 1) * 7 + 1
                chain = trades[U(at)]
                trades[U(at)] = o
            books[U(b + TRADES)] = 0
            meta[OPEN_TRADES] -= 1
        if with_effects:
            chain = books[U(b + EFFECTS)]
            while chain:
                at = (chain - 1) * 4 + 1
                chain = effects[U(at)]
                effects[U(at)] = o
            books[U(b + EFFECTS)] = 0
        if books[U(b + TOUCHED)] != batch:
            books[U(b + TOUCHED)] = batch
            touched[U(meta[TOUCHED_BOOKS])] = slot
            meta[TOUCHED_BOOKS] += 1

        sb = b + SIDE
        shown = books[U(b + FLAGS)] & (BOOK_CROSSED | BOOK_LOCKED)
        if state & MAYBE_BAD:
            shown |= BOOK_MAYBE_BAD
        # Only a side whose best level may have changed is looked at: most events touch neither.
        if state & (BEST | BEST << 1):
            changed = False
            for which in range(2):
                if not state & (BEST << which):
                    continue
                top = books[U(sb + 4 * which + LEVELS_IN)]
                px, total, count = _UNDEF, 0, 0
                if top:
                    at = (books[U(sb + 4 * which + CHUNK)] * CAP + top - 1) * 2
                    px = chunks[U(at)] ^ -which
                    lv = chunks[U(at + 1)]
                    total, count = levels[U(lv * LEVEL_WORDS + 1)], I(levels4[U(lv * 8 + L_COUNT)])
                at = b + BBO + 3 * which
                if books[U(at)] != px or books[U(at + 1)] != total or books[U(at + 2)] != count:
                    books[U(at)], books[U(at + 1)], books[U(at + 2)] = px, total, count
                    changed = True
            state &= ~(BEST | BEST << 1)
            if changed:
                at = b + BBO
                bid_px, ask_px = books[U(at)], books[U(at + 3)]
                shown &= BOOK_MAYBE_BAD
                if books[U(at + 2)] and books[U(at + 5)] and bid_px >= ask_px:
                    shown |= BOOK_CROSSED if bid_px > ask_px else BOOK_LOCKED
                row = out_bbo * 9
                out_bbo += 1
                bbo[U(row)] = o
                bbo[U(row + 1)] = books[U(b + TS_EVENT)]
                bbo[U(row + 2)] = books[U(b + TS_RECV)]
                bbo[U(row + 3)] = books[U(b + HEAD)] | shown << 48
                bbo[U(row + 4)], bbo[U(row + 5)] = bid_px, ask_px
                bbo[U(row + 6)], bbo[U(row + 7)] = books[U(at + 1)], books[U(at + 4)]
                bbo[U(row + 8)] = books[U(at + 2)] | books[U(at + 5)] << 32
        books[U(b + FLAGS)] = shown
        meets = shown & (BOOK_CROSSED | BOOK_LOCKED) != 0

        # --- the overlay of a book whose sides meet (uncross.py) -------------------------------------------------
        # Nothing to do if no level has changed that the last one depends on, and no trade has moved its anchor.
        if policy == UNCROSS and (meets != (state & MET != 0) or (meets and state & MOVED)):
            state = (state & MAYBE_BAD) | (MET if meets else 0)
            auction_px = auction_sz = 0
            bid_px, bid_sz, bid_ct = _UNDEF, 0, 0
            ask_px, ask_sz, ask_ct = _UNDEF, 0, 0
            if meets:
                # -- both sides from their best while they meet
                cb, ca = books[U(sb + CHUNK)], books[U(sb + 4 + CHUNK)]
                db, da = books[U(sb + CHUNKS)] - 1, books[U(sb + 4 + CHUNKS)] - 1
                jb, ja = books[U(sb + LEVELS_IN)] - 1, books[U(sb + 4 + LEVELS_IN)] - 1
                lb, la = chunks[U((cb * CAP + jb) * 2 + 1)], chunks[U((ca * CAP + ja) * 2 + 1)]
                pb, pa = levels[U(lb * LEVEL_WORDS)], ~levels[U(la * LEVEL_WORDS)]
                size_b, size_a = levels[U(lb * LEVEL_WORDS + 1)], levels[U(la * LEVEL_WORDS + 1)]
                high = low = 0
                while lb and la and pb >= pa:
                    high, low = pb, pa
                    step = min(size_b, size_a)
                    auction_sz += step
                    size_b -= step
                    size_a -= step
                    if size_b == 0:
                        jb -= 1
                        if jb < 0 and db > 0:
                            db -= 1
                            cb = I(dirs[U((books[U(sb + DIR)] >> 8) + db)])
                            jb = I(chunk_n[U(cb)]) - 1
                        lb = chunks[U((cb * CAP + jb) * 2 + 1)] if jb >= 0 else 0
                        pb, size_b = levels[U(lb * LEVEL_WORDS)], levels[U(lb * LEVEL_WORDS + 1)]
                    if size_a == 0:
                        ja -= 1
                        if ja < 0 and da > 0:
                            da -= 1
                            ca = I(dirs[U((books[U(sb + 4 + DIR)] >> 8) + da)])
                            ja = I(chunk_n[U(ca)]) - 1
                        la = chunks[U((ca * CAP + ja) * 2 + 1)] if ja >= 0 else 0
                        pa, size_a = ~levels[U(la * LEVEL_WORDS)], levels[U(la * LEVEL_WORDS + 1)]
                # -- what remains of the level in which each side stopped
                if lb:
                    bid_px, bid_sz, bid_ct = pb, size_b, I(levels4[U(lb * 8 + L_COUNT)])
                    part = levels[U(lb * LEVEL_WORDS + 1)] - size_b
                    cur = I(levels4[U(lb * 8 + L_HEAD)])
                    while part and I(orders4[U(cur * 8 + O_SIZE)]) <= part:
                        part -= I(orders4[U(cur * 8 + O_SIZE)])
                        cur = I(orders4[U(cur * 8 + O_NEXT)])
                        bid_ct -= 1
                if la:
                    ask_px, ask_sz, ask_ct = pa, size_a, I(levels4[U(la * 8 + L_COUNT)])
                    part = levels[U(la * LEVEL_WORDS + 1)] - size_a
                    cur = I(levels4[U(la * 8 + L_HEAD)])
                    while part and I(orders4[U(cur * 8 + O_SIZE)]) <= part:
                        part -= I(orders4[U(cur * 8 + O_SIZE)])
                        cur = I(orders4[U(cur * 8 + O_NEXT)])
                        ask_ct -= 1
                books[U(b + BOUND)] = min(low, bid_px) if lb else -(2**63)
                books[U(b + BOUND + 1)] = ~max(high, ask_px) if la else -(2**63)
                # -- the price: least surplus, then closest to the last trade, then the lowest
                last = books[U(b + LAST_PX)]
                anchor = (low & high) + ((low ^ high) >> 1) if last == _UNDEF else last
                least, nearest = 0, U(0)
                for candidate in range(5):
                    if candidate == 0:
                        at_px = low
                    elif candidate == 1:
                        at_px = high
                    elif candidate == 2:
                        at_px = bid_px if lb else low
                    elif candidate == 3:
                        at_px = ask_px if la else low
                    else:
                        at_px = anchor if last != _UNDEF else low
                    if at_px < low or at_px > high:
                        continue
                    surplus = 0
                    if lb and at_px <= bid_px:
                        surplus = bid_sz
                        c, j, d = cb, jb, db
                        while candidate == 0 or surplus <= least:
                            j -= 1
                            if j < 0 and d > 0:
                                d -= 1
                                c = I(dirs[U((books[U(sb + DIR)] >> 8) + d)])
                                j = I(chunk_n[U(c)]) - 1
                            if j < 0 or chunks[U((c * CAP + j) * 2)] < at_px:
                                break
                            surplus += levels[U(chunks[U((c * CAP + j) * 2 + 1)] * LEVEL_WORDS + 1)]
                    elif la and at_px >= ask_px:
                        surplus = ask_sz
                        c, j, d = ca, ja, da
                        while candidate == 0 or surplus <= least:
                            j -= 1
                            if j < 0 and d > 0:
                                d -= 1
                                c = I(dirs[U((books[U(sb + 4 + DIR)] >> 8) + d)])
                                j = I(chunk_n[U(c)]) - 1
                            if j < 0 or ~chunks[U((c * CAP + j) * 2)] > at_px:
                                break
                            surplus += levels[U(chunks[U((c * CAP + j) * 2 + 1)] * LEVEL_WORDS + 1)]
                    distance = U(at_px) - U(anchor) if at_px >= anchor else U(anchor) - U(at_px)
                    if (
                        candidate == 0 or surplus < least
                        or (surplus == least and (distance < nearest or (distance == nearest and at_px < auction_px)))
                    ):  # fmt: skip
                        least, nearest, auction_px = surplus, distance, at_px
            at = b + AUCTION
            present = 1 if meets else 0
            if (
                books[U(at)] != present or books[U(at + 1)] != auction_px or books[U(at + 2)] != auction_sz
                or books[U(at + 3)] != bid_px or books[U(at + 4)] != bid_sz or books[U(at + 5)] != bid_ct
                or books[U(at + 6)] != ask_px or books[U(at + 7)] != ask_sz or books[U(at + 8)] != ask_ct
            ):  # fmt: skip
                books[U(at)], books[U(at + 1)], books[U(at + 2)] = present, auction_px, auction_sz
                books[U(at + 3)], books[U(at + 4)], books[U(at + 5)] = bid_px, bid_sz, bid_ct
                books[U(at + 6)], books[U(at + 7)], books[U(at + 8)] = ask_px, ask_sz, ask_ct
                at = out_auctions * 11
                out_auctions += 1
                auctions[U(at)] = o
                auctions[U(at + 1)] = books[U(b + TS_EVENT)]
                auctions[U(at + 2)] = books[U(b + TS_RECV)]
                auctions[U(at + 3)] = books[U(b + HEAD)] | present << 48
                auctions[U(at + 4)] = auction_px
                auctions[U(at + 5)] = auction_sz
                auctions[U(at + 6)] = bid_px
                auctions[U(at + 7)] = ask_px
                auctions[U(at + 8)] = bid_sz
                auctions[U(at + 9)] = ask_sz
                auctions[U(at + 10)] = bid_ct | ask_ct << 32
        books[U(b + STATE)] = state
        k += 1

    meta[POSITION] = k
    meta[DIRTY] = dn
    meta[BBO_ROWS], meta[TRADE_ROWS], meta[AUCTION_ROWS] = out_bbo, out_trades, out_auctions
    meta[EFFECT_ROWS] = out_effects


@nb.njit(nb.void(_I8, _I8, _I8, _U4, _U4, _I8, _I4, _U4, _I8, _I8), cache=True, nogil=True)
def flush(
    meta: Any, books: Any, levels: Any, levels4: Any, held: Any, dirty: Any, graves: Any, touched: Any,
    level_rows: Any, touched_rows: Any,
) -> None:  # fmt: skip
    """Close a batch: rows of the levels and books touched; meta[DIRTY], meta[TOUCHED_BOOKS] become their counts.

    `held`: the slots of all records held back. Levels of books inside a snapshot stay in the dirty list; meta[PENDING]
    says how many.
    """
    batch = meta[BATCH]
    for i in range(held.shape[0]):
        slot = I(held[U(i)])
        b = slot * BOOK_WORDS
        if not books[U(b + FLAGS)] & BOOK_OPEN:
            books[U(b + FLAGS)] |= BOOK_OPEN
            if books[U(b + TOUCHED)] != batch:
                books[U(b + TOUCHED)] = batch
                touched[U(meta[TOUCHED_BOOKS])] = slot
                meta[TOUCHED_BOOKS] += 1
    for i in range(meta[TOUCHED_BOOKS]):
        b = I(touched[U(i)]) * BOOK_WORDS
        touched_rows[U(i * 4)] = books[U(b + ORDINAL)]
        touched_rows[U(i * 4 + 1)] = books[U(b + TS_EVENT)]
        touched_rows[U(i * 4 + 2)] = books[U(b + TS_RECV)]
        touched_rows[U(i * 4 + 3)] = books[U(b + HEAD)] | books[U(b + FLAGS)] << 48
    out = waiting = 0
    for i in range(meta[DIRTY]):
        key, owner, lv = dirty[U(i * 4)], dirty[U(i * 4 + 1)], dirty[U(i * 4 + 2)]
        grave = dirty[U(i * 4 + 3)] & 0xFFFF_FFFF
        if grave:
            graves[U(grave - 1)] = 0
        size = count = 0
        if owner < 0:
            owner, size, count = -2 - owner, lv, dirty[U(i * 4 + 3)] >> 32
            b = (owner >> 1) * BOOK_WORDS
        else:
            if lv:
                levels4[U(lv * 8 + L_DIRTY)] = 0
                size, count = levels[U(lv * LEVEL_WORDS + 1)], I(levels4[U(lv * 8 + L_COUNT)])
            b = (owner >> 1) * BOOK_WORDS
            if books[U(b + STATE)] & IN_SNAPSHOT:
                dirty[U(waiting * 4)], dirty[U(waiting * 4 + 1)] = key, owner
                dirty[U(waiting * 4 + 2)], dirty[U(waiting * 4 + 3)] = lv, 0
                waiting += 1
                continue
        letter = SIDE_ASK if owner & 1 else SIDE_BID
        level_rows[U(out * 4)] = books[U(b + HEAD)] | letter << 48
        level_rows[U(out * 4 + 1)] = key ^ -(owner & 1)
        level_rows[U(out * 4 + 2)] = size
        level_rows[U(out * 4 + 3)] = count
        out += 1
    meta[DIRTY], meta[PENDING], meta[GRAVES] = out, waiting, 0
