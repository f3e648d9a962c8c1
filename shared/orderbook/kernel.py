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

from shared import records as rows
from shared import units
from shared.orderbook import engine as kinds
from shared.orderbook import layout as lo
from shared.orderbook.intrinsics import fold, prefetch

U = np.uint64
I = np.int64  # noqa: E741
RECORD_WORDS = 7
_MIX = U(0xD6E8_FEB8_6659_FD93)
_UNDEF = units.UNDEF_PX
_TOP_OR_LEVEL = units.F_TOB | units.F_MBP

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
    """Give records `start`… their book slots. Returns the number of the first record without one: no room for a book."""
    n = words.shape[0] // RECORD_WORDS
    for k in range(lo.HELD, lo.OPEN_TRADES + 1):
        meta[k] = 0
    meta[lo.POSITION] = 0
    mask, room = index.shape[0] - 1, books.shape[0] // lo.BOOK_WORDS
    seed, seed2 = U(meta[lo.SEED]), U(meta[lo.SEED2])
    last_key, slot = I(-1), I(0)
    for i in range(start, n):
        key = I(words[U(i * RECORD_WORDS)] >> U(16))
        if key != last_key:
            h = I(fold(U(key) ^ seed, seed2)) & mask
            found = I(index[U(h)])
            while found and books[U((found - 1) * lo.BOOK_WORDS + lo.KEY)] != key:
                h = (h + 1) & mask
                found = I(index[U(h)])
            slot = found - 1
            if not found:
                if meta[lo.BOOK_FREE]:
                    slot = meta[lo.BOOK_FREE] - 1
                    meta[lo.BOOK_FREE] = books[U(slot * lo.BOOK_WORDS + lo.KEY)]
                elif meta[lo.BOOKS_USED] < room:
                    slot = meta[lo.BOOKS_USED]
                    meta[lo.BOOKS_USED] += 1
                else:
                    return i
                index[U(h)] = slot + 1
                b = slot * lo.BOOK_WORDS
                for k in range(lo.BOOK_WORDS):
                    books[U(b + k)] = 0
                books[U(b + lo.KEY)] = key
                books[U(b + lo.HEAD)] = (key >> 16) | ((key & 0xFFFF) << 32)
                books[U(b + lo.APPLY)] = books[U(b + lo.INTERRUPTED)] = -1
                books[U(b + lo.LAST_PX)] = _UNDEF
                books[U(b + lo.BBO)] = _UNDEF
                books[U(b + lo.BBO + 3)] = _UNDEF
                books[U(b + lo.AUCTION + 3)] = _UNDEF
                books[U(b + lo.AUCTION + 6)] = _UNDEF
                meta[lo.EVENT] += 1
                books[U(b + lo.EVENT_NO)] = meta[lo.EVENT]
            last_key = key
        b = slot * lo.BOOK_WORDS
        flags = I(words[U(i * RECORD_WORDS + 4)] >> U(32)) & 0xFF
        mark = slot
        if flags & units.F_SNAPSHOT:
            if books[U(b + lo.OPEN)]:
                books[U(b + lo.COUNTS + kinds.EVENT_INTERRUPTED)] += 1
                begun = books[U(b + lo.FIRST_HELD)]
                if begun >= first:
                    slots[U(begun - first)] |= U(lo.ENTERS)
                else:
                    books[U(b + lo.INTERRUPTED)] = begun
                books[U(b + lo.OPEN)] = 0
            books[U(b + lo.APPLY)] = first + i
            if flags & units.F_LAST:
                mark |= lo.ENDS
        else:
            held = books[U(b + lo.OPEN)] + 1
            if held == 1:
                books[U(b + lo.FIRST_HELD)] = first + i
            if flags & units.F_LAST or held == kinds.EVENT_RECORDS_MAX:
                if not flags & units.F_LAST:
                    books[U(b + lo.COUNTS + kinds.EVENT_TOO_LONG)] += 1
                mark |= lo.ENDS
                held = 0
                books[U(b + lo.APPLY)] = first + i
            books[U(b + lo.OPEN)] = held
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
    hmask = table.shape[0] // lo.HASH_WORDS - 1
    gmask = graves.shape[0] - 1
    seed, seed2 = U(meta[lo.SEED]), U(meta[lo.SEED2])
    batch = meta[lo.BATCH]
    deep = hmask + 1 >= DEEP_HASH_ENTRIES
    many = meta[lo.BOOKS_USED] > MANY_BOOKS
    table_at, orders_at, levels_at = I(table.ctypes.data), I(orders.ctypes.data), I(levels.ctypes.data)
    books_at, chunks_at = I(books.ctypes.data), I(chunks.ctypes.data)
    order_cap, level_cap = orders.shape[0] // lo.ORDER_WORDS, levels.shape[0] // lo.LEVEL_WORDS
    chunk_cap, dir_cap = chunk_n.shape[0], dirs.shape[0]
    dn = meta[lo.DIRTY]
    out_bbo, out_trades, out_auctions = meta[lo.BBO_ROWS], meta[lo.TRADE_ROWS], meta[lo.AUCTION_ROWS]
    out_effects = meta[lo.EFFECT_ROWS]
    k = meta[lo.POSITION]
    meta[lo.REASON] = lo.DONE

    # Each record makes at most one row of a kind, so this many fit for sure.
    stop = n
    stop = min(stop, k + bbo.shape[0] // 9 - out_bbo)
    stop = min(stop, k + trades.shape[0] // 7 - out_trades)
    stop = min(stop, k + auctions.shape[0] // 11 - out_auctions)
    if with_effects:
        stop = min(stop, k + effects.shape[0] // 4 - out_effects)
    if stop < n:
        meta[lo.REASON] = lo.OUTPUT_FULL
    # No level is in the dirty list twice, so it cannot get longer than the levels there are and two a record.
    live_levels = meta[lo.LEVELS_USED] - meta[lo.LEVELS_FREE]
    if everything and dirty.shape[0] // lo.DIRTY_WORDS < live_levels + dn + 2 * (stop - k) + 2:
        meta[lo.REASON] = lo.DIRTY_FULL
        return
    room = I(0)

    while k < stop:
        p = k * RECORD_WORDS
        mark = I(slots[U(k)])
        slot = mark & lo.SLOT
        ends = mark & lo.ENDS
        b = slot * lo.BOOK_WORDS
        o = carried[U(k)] if k < nc else first + (k - nc)
        fake = k >= n - synthetic
        if fake:
            o = first

        # --- prefetch what records further on will touch ---------------------------------------------------------
        if many and k + 12 < n:
            line = books_at + I(slots[U(k + 12)] & U(lo.SLOT)) * (lo.BOOK_WORDS * 8)
            prefetch(line)
            prefetch(line + 64)
            prefetch(line + 128)
            prefetch(line + 192)
            ahead = I(slots[U(k + 6)] & U(lo.SLOT)) * lo.BOOK_WORDS + lo.SIDE
            if (words[U((k + 6) * RECORD_WORDS + 4)] >> U(56)) == U(units.SIDE_ASK):
                ahead += 4
            top = books[U(ahead + lo.CHUNK)] * lo.CAP + books[U(ahead + lo.LEVELS_IN)]
            prefetch(chunks_at + top * (lo.ENTRY_WORDS * 8) - 16)
            prefetch(chunks_at + top * (lo.ENTRY_WORDS * 8) - 80)
        if deep and k + 12 < n:
            q = (k + 12) * RECORD_WORDS
            x = fold(words[U(q + 2)] ^ seed, seed2 + U(slots[U(k + 12)] & U(lo.SLOT)) * _MIX)
            prefetch(table_at + (I(x) & hmask) * (lo.HASH_WORDS * 8))
            q = (k + 8) * RECORD_WORDS
            x = fold(words[U(q + 2)] ^ seed, seed2 + U(slots[U(k + 8)] & U(lo.SLOT)) * _MIX)
            e = table[U((I(x) & hmask) * lo.HASH_WORDS + 1)] & 0xFFFF_FFFF
            prefetch(orders_at + e * (lo.ORDER_WORDS * 8))
            q = (k + 4) * RECORD_WORDS
            x = fold(words[U(q + 2)] ^ seed, seed2 + U(slots[U(k + 4)] & U(lo.SLOT)) * _MIX)
            e = table[U((I(x) & hmask) * lo.HASH_WORDS + 1)] & 0xFFFF_FFFF
            if e:
                prefetch(orders_at + I(orders4[U(e * 8 + lo.O_PREV)]) * (lo.ORDER_WORDS * 8))
                prefetch(orders_at + I(orders4[U(e * 8 + lo.O_NEXT)]) * (lo.ORDER_WORDS * 8))
                prefetch(levels_at + I(orders4[U(e * 8 + lo.O_LEVEL)] >> U(2)) * (lo.LEVEL_WORDS * 8))

        # --- held back -------------------------------------------------------------------------------------------
        if o > books[U(b + lo.APPLY)] and not fake:
            held[U(meta[lo.HELD])] = k
            meta[lo.HELD] += 1
            k += 1
            continue

        # --- room in the pools: a record takes at most one order, one level and two chunks -----------------------
        if room <= 0:
            room = order_cap - meta[lo.ORDERS_USED] + meta[lo.ORDERS_FREE]
            room = min(room, level_cap - meta[lo.LEVELS_USED] + meta[lo.LEVELS_FREE])
            room = min(room, (chunk_cap - meta[lo.CHUNKS_USED] + meta[lo.CHUNKS_FREE]) // 2)
            room = min(room, (hmask >> 1) - meta[lo.HASHED])
            if room <= 0 or dir_cap - meta[lo.DIRS_USED] < (lo.DIR_FIRST << (meta[lo.DIR_CLASS] + 1)):
                meta[lo.REASON] = lo.POOLS_FULL
                break
        room -= 1

        tail = I(words[U(p + 4)])
        size, flags = tail & 0xFFFF_FFFF, (tail >> 32) & 0xFF
        action, letter = (tail >> 48) & 0xFF, (tail >> 56) & 0xFF
        oid, px = I(words[U(p + 2)]), I(words[U(p + 3)])
        side = I(0) if letter == units.SIDE_BID else I(1) if letter == units.SIDE_ASK else I(2)
        flip = -(side & 1)  # ~price of an ask: on both sides the best level has the largest key
        state = books[U(b + lo.STATE)]
        counts = b + lo.COUNTS

        if not fake:
            books[U(b + lo.RECORDS)] += 1
            books[U(b + lo.TS_EVENT)] = I(words[U(p + 1)])
            books[U(b + lo.TS_RECV)] = I(words[U(p + 5)])
        books[U(b + lo.ORDINAL)] = o

        if (flags & units.F_SNAPSHOT or mark & lo.ENTERS) and not state & lo.IN_SNAPSHOT:
            if state & lo.FILLED:
                meta[lo.EVENT] += 1
                books[U(b + lo.EVENT_NO)] = meta[lo.EVENT]
            state = I(lo.IN_SNAPSHOT)
            # What this batch has touched in the book is published as it stands now: at its last event end.
            for i in range(dn):
                owner = dirty[U(i * 4 + 1)]
                if owner >> 1 == slot:
                    lv = dirty[U(i * 4 + 2)]
                    dirty[U(i * 4 + 1)] = -2 - owner
                    dirty[U(i * 4 + 2)] = 0
                    if lv:
                        dirty[U(i * 4 + 2)] = levels[U(lv * lo.LEVEL_WORDS + 1)]
                        dirty[U(i * 4 + 3)] |= I(levels4[U(lv * 8 + lo.L_COUNT)]) << 32
                        levels4[U(lv * 8 + lo.L_DIRTY)] = 0
                    meta[lo.EARLY] += 1
        if flags & units.F_SNAPSHOT:
            # What was held before a snapshot ends with its first record.
            chain = books[U(b + lo.TRADES)]
            if chain:
                while chain:
                    at = (chain - 1) * 7 + 1
                    chain = trades[U(at)]
                    trades[U(at)] = o
                books[U(b + lo.TRADES)] = 0
                meta[lo.OPEN_TRADES] -= 1
            chain = books[U(b + lo.EFFECTS)]
            while chain:
                at = (chain - 1) * 4 + 1
                chain = effects[U(at)]
                effects[U(at)] = o
            books[U(b + lo.EFFECTS)] = 0
            if books[U(b + lo.FLAGS)] & rows.BOOK_OPEN:
                books[U(b + lo.FLAGS)] &= ~rows.BOOK_OPEN
                if books[U(b + lo.TOUCHED)] != batch:
                    books[U(b + lo.TOUCHED)] = batch
                    touched[U(meta[lo.TOUCHED_BOOKS])] = slot
                    meta[lo.TOUCHED_BOOKS] += 1

        # --- what the record wants -------------------------------------------------------------------------------
        effect, before, after, why = I(rows.EFFECT_NONE), I(0), I(0), I(0)
        purpose, bulk, bulk_level, left = I(NOTHING), I(0), I(0), I(0)
        gone, keep, resized, to_size = I(0), False, I(0), I(0)  # an order to unlink, one to make smaller
        idx, hp, new_size, aggregate = I(0), I(0), I(0), I(0)  # new_size > 0: an order to add
        drop_key, drop_side = I(0), I(0)

        special = flags & _TOP_OR_LEVEL and (
            action == units.ACTION_ADD or action == units.ACTION_CANCEL or action == units.ACTION_MODIFY
        )
        if special:
            if side == 2:
                why = kinds.BAD_SIDE
                books[U(counts + why)] += 1
            elif action == units.ACTION_CANCEL:
                purpose = AGGREGATE_CANCEL
            elif flags & units.F_TOB:
                effect = I(rows.EFFECT_REPLACED)
                bulk = ONE_SIDE
                new_size = I(0) if px == _UNDEF else size
                after, aggregate = new_size, I(1)
            elif px == _UNDEF:
                why = kinds.UNDEFINED_PRICE
                books[U(counts + why)] += 1
            else:
                effect, after = I(rows.EFFECT_REPLACED), size
                purpose, aggregate = AGGREGATE_SET, I(1)
        elif (
            action == units.ACTION_ADD or action == units.ACTION_CANCEL or action == units.ACTION_MODIFY
            or action == units.ACTION_FILL
        ):  # fmt: skip
            tag = slot + 1
            hp = I(fold(U(oid) ^ seed, seed2 + U(slot) * _MIX)) & hmask
            while True:
                e = table[U(hp * lo.HASH_WORDS + 1)]
                if e == 0:
                    break
                if (e >> 32) == tag and table[U(hp * lo.HASH_WORDS)] == oid:
                    idx = e & 0xFFFF_FFFF
                    break
                hp = (hp + 1) & hmask
            where = I(orders4[U(idx * 8 + lo.O_LEVEL)])
            executed = idx != 0 and where == lo.O_EXECUTED
            live = idx != 0 and not executed
            had = I(orders4[U(idx * 8 + lo.O_SIZE)])

            if action == units.ACTION_ADD:
                if side == 2:
                    why = kinds.BAD_SIDE
                elif px == _UNDEF:
                    why = kinds.UNDEFINED_PRICE
                elif size == 0:
                    why = kinds.ZERO_SIZE
                else:
                    effect, new_size, after = I(rows.EFFECT_ADDED), size, size
                    gone, keep = idx, True
                    if live:
                        effect, before, why = I(rows.EFFECT_REPLACED), had, kinds.DUPLICATE_ADD
                if why:
                    books[U(counts + why)] += 1
            elif action == units.ACTION_CANCEL:
                if not live:
                    why = kinds.EXECUTED_ORDER if executed else kinds.UNKNOWN_CANCEL
                    books[U(counts + why)] += 1
                    gone = idx
                elif size == 0:
                    before, after, why = had, had, kinds.ZERO_SIZE
                    books[U(counts + why)] += 1
                else:
                    before = had
                    if side != (where & 1):
                        why = kinds.SIDE_MISMATCH
                        books[U(counts + why)] += 1
                    if px != levels[U((where >> 2) * lo.LEVEL_WORDS)] ^ -(where & 1):
                        books[U(counts + kinds.PRICE_MISMATCH)] += 1
                        if not why:
                            why = kinds.PRICE_MISMATCH
                    if size > had:
                        books[U(counts + kinds.OVERSIZE_CANCEL)] += 1
                        if not why:
                            why = kinds.OVERSIZE_CANCEL
                    if size >= had:
                        effect, gone = I(rows.EFFECT_REMOVED), idx
                    else:
                        effect, resized, to_size = I(rows.EFFECT_REDUCED), idx, had - size
                        after = to_size
            elif action == units.ACTION_MODIFY:
                if side == 2 or px == _UNDEF:
                    why = kinds.BAD_SIDE if side == 2 else kinds.UNDEFINED_PRICE
                    books[U(counts + why)] += 1
                elif not live:
                    why = kinds.EXECUTED_ORDER if executed else kinds.UNKNOWN_MODIFY
                    books[U(counts + why)] += 1
                    gone = idx
                    if size == 0:
                        books[U(counts + kinds.ZERO_SIZE)] += 1
                    else:
                        effect, new_size, after, keep = I(rows.EFFECT_ADDED), size, size, True
                else:
                    before, after = had, size
                    if side != (where & 1):
                        why = kinds.SIDE_MISMATCH
                        books[U(counts + why)] += 1
                    if size == 0:
                        books[U(counts + kinds.ZERO_SIZE)] += 1
                        if not why:
                            why = kinds.ZERO_SIZE
                        effect, gone = I(rows.EFFECT_REMOVED), idx
                    elif why or size > had or px != levels[U((where >> 2) * lo.LEVEL_WORDS)] ^ -(where & 1):
                        effect, gone, keep, new_size = I(rows.EFFECT_MOVED), idx, True, size
                    elif size < had:
                        effect, resized, to_size = I(rows.EFFECT_REDUCED), idx, size
                    elif state & lo.FILLED and fills[U(idx)] == books[U(b + lo.EVENT_NO)]:
                        why = kinds.REFILL
                        books[U(counts + why)] += 1
            else:  # F: names an order, changes nothing
                if live:
                    before, after = had, had
                    if not state & lo.IN_SNAPSHOT:
                        fills[U(idx)] = books[U(b + lo.EVENT_NO)]
                        state |= lo.FILLED
                else:
                    why = kinds.EXECUTED_ORDER if executed else kinds.UNKNOWN_FILL
                    books[U(counts + why)] += 1
        elif action == units.ACTION_TRADE:
            if px == _UNDEF:
                why = kinds.UNDEFINED_PRICE
            elif size == 0:
                why = kinds.ZERO_SIZE
            elif flags & units.F_SNAPSHOT:
                why = kinds.SNAPSHOT_TRADE
            else:
                books[U(b + lo.LAST_PX)] = px
                if everything:
                    at = out_trades * 7
                    out_trades += 1
                    if not books[U(b + lo.TRADES)]:
                        meta[lo.OPEN_TRADES] += 1
                        if meta[lo.OPEN_TRADES] > 1:
                            meta[lo.INTERLEAVED] = 1
                    trades[U(at)] = o
                    trades[U(at + 1)] = books[U(b + lo.TRADES)]
                    trades[U(at + 2)] = I(words[U(p + 1)])
                    trades[U(at + 3)] = I(words[U(p + 5)])
                    trades[U(at + 4)] = px
                    head = books[U(b + lo.HEAD)]
                    trades[U(at + 5)] = size | (head << 32)
                    trades[U(at + 6)] = (
                        I(words[U(p + 6)] >> U(32))
                        | (head & 0xFFFF_0000_0000)
                        | (letter << 48)
                        | (flags << 56)
                    )
                    books[U(b + lo.TRADES)] = out_trades
            if why:
                books[U(counts + why)] += 1
        elif action == units.ACTION_CLEAR:
            effect, bulk = I(rows.EFFECT_CLEARED), BOTH_SIDES
            state &= ~lo.MAYBE_BAD
        elif action != units.ACTION_NONE:
            why = kinds.BAD_ACTION
            books[U(counts + why)] += 1

        # --- do it -----------------------------------------------------------------------------------------------
        uncrossed = False
        while True:
            # -- remove many orders: a side, both, one level, or what the uncrossing executes
            if bulk:
                bs = side if bulk == ONE_SIDE or bulk == ONE_LEVEL else I(0)
                quota = left
                while True:
                    sb = b + lo.SIDE + 4 * bs
                    top = books[U(sb + lo.LEVELS_IN)]
                    if bulk != ONE_LEVEL and (top == 0 or (bulk == EXECUTE and left == 0)):
                        if bulk == ONE_SIDE or bs == 1:
                            break
                        bs, left = I(1), quota
                        continue
                    chunk = books[U(sb + lo.CHUNK)]
                    lv = bulk_level
                    if bulk != ONE_LEVEL:
                        lv = chunks[U((chunk * lo.CAP + top - 1) * lo.ENTRY_WORDS + 1)]
                    if everything and levels4[U(lv * 8 + lo.L_DIRTY)] == 0:
                        dirty[U(dn * 4)] = levels[U(lv * lo.LEVEL_WORDS)]
                        dirty[U(dn * 4 + 1)] = slot << 1 | bs
                        dirty[U(dn * 4 + 2)] = lv
                        dirty[U(dn * 4 + 3)] = 0
                        dn += 1
                        levels4[U(lv * 8 + lo.L_DIRTY)] = dn
                    cur = I(levels4[U(lv * 8 + lo.L_HEAD)])
                    while cur:
                        had = I(orders4[U(cur * 8 + lo.O_SIZE)])
                        if bulk == EXECUTE:
                            if left == 0:
                                break
                            if had > left:
                                orders4[U(cur * 8 + lo.O_SIZE)] = had - left
                                levels[U(lv * lo.LEVEL_WORDS + 1)] -= left
                                left = I(0)
                                break
                            left -= had
                        follower = I(orders4[U(cur * 8 + lo.O_NEXT)])
                        if state & lo.FILLED:
                            fills[U(cur)] = 0
                        levels[U(lv * lo.LEVEL_WORDS + 1)] -= had
                        levels4[U(lv * 8 + lo.L_COUNT)] -= U(1)
                        is_aggregate = I(orders4[U(cur * 8 + lo.O_LEVEL)]) & 2
                        if bulk == EXECUTE and not is_aggregate:
                            other = books[U(b + lo.EXECUTED)]
                            orders4[U(cur * 8 + lo.O_LEVEL)] = lo.O_EXECUTED
                            orders4[U(cur * 8 + lo.O_PREV)] = 0
                            orders4[U(cur * 8 + lo.O_NEXT)] = other
                            if other:
                                orders4[U(other * 8 + lo.O_PREV)] = cur
                            books[U(b + lo.EXECUTED)] = cur
                            books[U(b + lo.EXECUTED_COUNT)] += 1
                            meta[lo.EXECUTED_ORDERS] += 1
                        else:
                            if not is_aggregate:
                                old = orders[U(cur * lo.ORDER_WORDS)]
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
                                meta[lo.HASHED] -= 1
                            orders4[U(cur * 8 + lo.O_NEXT)] = meta[lo.ORDER_FREE]
                            meta[lo.ORDER_FREE] = cur
                            meta[lo.ORDERS_FREE] += 1
                        cur = follower
                    levels4[U(lv * 8 + lo.L_HEAD)] = cur
                    if cur:
                        orders4[U(cur * 8 + lo.O_PREV)] = 0
                        continue  # EXECUTE: this side is done
                    levels4[U(lv * 8 + lo.L_TAIL)] = 0
                    if bulk == ONE_LEVEL:
                        break
                    # the level goes: it is the last of the top chunk
                    at = I(levels4[U(lv * 8 + lo.L_DIRTY)])
                    if at:
                        dirty[U(at * 4 - 2)] = 0
                        if dirty[U(at * 4 - 1)] == 0:
                            key = levels[U(lv * lo.LEVEL_WORDS)]
                            x = U(key ^ (slot << 1 | bs) * 0x5851_F42D) * U(lo.GRAVE_MULTIPLIER)
                            h = I(x >> U(24)) & gmask
                            while graves[U(h)]:
                                h = (h + 1) & gmask
                            graves[U(h)] = at
                            dirty[U(at * 4 - 1)] = h + 1
                            meta[lo.GRAVES] += 1
                    levels4[U(lv * 8 + lo.L_HEAD)] = meta[lo.LEVEL_FREE]
                    meta[lo.LEVEL_FREE] = lv
                    meta[lo.LEVELS_FREE] += 1
                    books[U(b + lo.LEVELS + bs)] -= 1
                    top -= 1
                    if top == 0 and books[U(sb + lo.CHUNKS)] > 1:
                        chunk_n[U(chunk)] = meta[lo.CHUNK_FREE]
                        meta[lo.CHUNK_FREE] = chunk
                        meta[lo.CHUNKS_FREE] += 1
                        books[U(sb + lo.CHUNKS)] -= 1
                        chunk = I(dirs[U((books[U(sb + lo.DIR)] >> 8) + books[U(sb + lo.CHUNKS)] - 1)])
                        books[U(sb + lo.CHUNK)] = chunk
                        top = I(chunk_n[U(chunk)])
                    books[U(sb + lo.LEVELS_IN)] = top
                if bulk == BOTH_SIDES:
                    cur = books[U(b + lo.EXECUTED)]
                    while cur:
                        follower = I(orders4[U(cur * 8 + lo.O_NEXT)])
                        old = orders[U(cur * lo.ORDER_WORDS)]
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
                        meta[lo.HASHED] -= 1
                        meta[lo.EXECUTED_ORDERS] -= 1
                        orders4[U(cur * 8 + lo.O_NEXT)] = meta[lo.ORDER_FREE]
                        meta[lo.ORDER_FREE] = cur
                        meta[lo.ORDERS_FREE] += 1
                        cur = follower
                    books[U(b + lo.EXECUTED)] = 0
                    books[U(b + lo.EXECUTED_COUNT)] = 0
                bulk = I(0)

            # -- make an order smaller where it stands
            if resized:
                lv = I(orders4[U(resized * 8 + lo.O_LEVEL)] >> U(2))
                levels[U(lv * lo.LEVEL_WORDS + 1)] -= I(orders4[U(resized * 8 + lo.O_SIZE)]) - to_size
                orders4[U(resized * 8 + lo.O_SIZE)] = to_size
                if everything and levels4[U(lv * 8 + lo.L_DIRTY)] == 0:
                    dirty[U(dn * 4)] = levels[U(lv * lo.LEVEL_WORDS)]
                    dirty[U(dn * 4 + 1)] = slot << 1 | I(orders4[U(resized * 8 + lo.O_LEVEL)]) & 1
                    dirty[U(dn * 4 + 2)] = lv
                    dirty[U(dn * 4 + 3)] = 0
                    dn += 1
                    levels4[U(lv * 8 + lo.L_DIRTY)] = dn
                resized = I(0)

            # -- take an order out of its queue; unless it is kept (to be placed again), out of the table too
            if gone:
                at = I(orders4[U(gone * 8 + lo.O_LEVEL)])
                ahead, behind = I(orders4[U(gone * 8 + lo.O_PREV)]), I(orders4[U(gone * 8 + lo.O_NEXT)])
                if at == lo.O_EXECUTED:
                    if ahead:
                        orders4[U(ahead * 8 + lo.O_NEXT)] = behind
                    else:
                        books[U(b + lo.EXECUTED)] = behind
                    if behind:
                        orders4[U(behind * 8 + lo.O_PREV)] = ahead
                    books[U(b + lo.EXECUTED_COUNT)] -= 1
                    meta[lo.EXECUTED_ORDERS] -= 1
                else:
                    lv = at >> 2
                    if ahead:
                        orders4[U(ahead * 8 + lo.O_NEXT)] = behind
                    else:
                        levels4[U(lv * 8 + lo.L_HEAD)] = behind
                    if behind:
                        orders4[U(behind * 8 + lo.O_PREV)] = ahead
                    else:
                        levels4[U(lv * 8 + lo.L_TAIL)] = ahead
                    if state & lo.FILLED:
                        fills[U(gone)] = 0
                    levels[U(lv * lo.LEVEL_WORDS + 1)] -= I(orders4[U(gone * 8 + lo.O_SIZE)])
                    levels4[U(lv * 8 + lo.L_COUNT)] -= U(1)
                    if everything and levels4[U(lv * 8 + lo.L_DIRTY)] == 0:
                        dirty[U(dn * 4)] = levels[U(lv * lo.LEVEL_WORDS)]
                        dirty[U(dn * 4 + 1)] = slot << 1 | at & 1
                        dirty[U(dn * 4 + 2)] = lv
                        dirty[U(dn * 4 + 3)] = 0
                        dn += 1
                        levels4[U(lv * 8 + lo.L_DIRTY)] = dn
                    if levels4[U(lv * 8 + lo.L_COUNT)] == 0:
                        purpose, drop_key, drop_side = I(DROP), levels[U(lv * lo.LEVEL_WORDS)], at & 1
                if not keep:
                    if at == lo.O_EXECUTED or not at & 2:
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
                        meta[lo.HASHED] -= 1
                    orders4[U(gone * 8 + lo.O_NEXT)] = meta[lo.ORDER_FREE]
                    meta[lo.ORDER_FREE] = gone
                    meta[lo.ORDERS_FREE] += 1
                gone = I(0)

            if purpose == NOTHING and new_size:
                purpose = I(ADD)

            # -- find the level of a key: from the top of the side for 8 levels, then binary
            if purpose:
                ls = drop_side if purpose == DROP else side
                want = drop_key if purpose == DROP else px ^ flip
                sb = b + lo.SIDE + 4 * ls
                chunk, top = books[U(sb + lo.CHUNK)], books[U(sb + lo.LEVELS_IN)]
                nchunks = books[U(sb + lo.CHUNKS)]
                place = nchunks - 1  # of the chunk in the directory
                base = chunk * lo.CAP
                if nchunks > 1 and want < chunks[U(base * lo.ENTRY_WORDS)]:
                    directory = books[U(sb + lo.DIR)] >> 8
                    lower, upper = I(0), nchunks - 1
                    while upper - lower > 1:
                        middle = (lower + upper) >> 1
                        if chunks[U(I(dirs[U(directory + middle)]) * (lo.CAP * lo.ENTRY_WORDS))] <= want:
                            lower = middle
                        else:
                            upper = middle
                    place = lower
                    chunk = I(dirs[U(directory + place)])
                    top = I(chunk_n[U(chunk)])
                    base = chunk * lo.CAP
                pos = top  # of the first level with a larger key
                stop_at = max(I(0), top - 8)
                while pos > stop_at and chunks[U((base + pos - 1) * lo.ENTRY_WORDS)] > want:
                    pos -= 1
                if pos == stop_at and pos > 0 and chunks[U((base + pos - 1) * lo.ENTRY_WORDS)] > want:
                    lower, upper = I(0), pos
                    while lower < upper:
                        middle = (lower + upper) >> 1
                        if chunks[U((base + middle) * lo.ENTRY_WORDS)] > want:
                            upper = middle
                        else:
                            lower = middle + 1
                    pos = lower
                lv = I(0)
                if pos > 0 and chunks[U((base + pos - 1) * lo.ENTRY_WORDS)] == want:
                    lv = chunks[U((base + pos - 1) * lo.ENTRY_WORDS + 1)]

                if purpose == ADD:
                    purpose = I(NOTHING)
                    # -- a new level
                    if lv == 0:
                        lv = meta[lo.LEVEL_FREE]
                        if lv:
                            meta[lo.LEVEL_FREE] = I(levels4[U(lv * 8 + lo.L_HEAD)])
                            meta[lo.LEVELS_FREE] -= 1
                        else:
                            lv = meta[lo.LEVELS_USED]
                            meta[lo.LEVELS_USED] += 1
                        levels[U(lv * lo.LEVEL_WORDS)] = want
                        levels[U(lv * lo.LEVEL_WORDS + 1)] = 0
                        levels[U(lv * lo.LEVEL_WORDS + 2)] = 0  # count, head
                        levels[U(lv * lo.LEVEL_WORDS + 3)] = 0  # tail, dirty
                        books[U(b + lo.LEVELS + ls)] += 1
                        if meta[lo.GRAVES]:
                            x = U(want ^ (slot << 1 | ls) * 0x5851_F42D) * U(lo.GRAVE_MULTIPLIER)
                            h = I(x >> U(24)) & gmask
                            while graves[U(h)]:
                                at = I(graves[U(h)])
                                if dirty[U(at * 4 - 4)] == want and dirty[U(at * 4 - 3)] == slot << 1 | ls:
                                    dirty[U(at * 4 - 2)] = lv
                                    levels4[U(lv * 8 + lo.L_DIRTY)] = at
                                    break
                                h = (h + 1) & gmask
                        if nchunks == 0:
                            chunk = meta[lo.CHUNK_FREE]
                            if chunk:
                                meta[lo.CHUNK_FREE] = I(chunk_n[U(chunk)])
                                meta[lo.CHUNKS_FREE] -= 1
                            else:
                                chunk = meta[lo.CHUNKS_USED]
                                meta[lo.CHUNKS_USED] += 1
                            books[U(sb + lo.CHUNK)] = chunk
                            books[U(sb + lo.CHUNKS)] = 1
                            nchunks, place, base = I(1), I(0), chunk * lo.CAP
                        elif top == lo.CAP:
                            # -- a full chunk: its upper half becomes the next one
                            half = meta[lo.CHUNK_FREE]
                            if half:
                                meta[lo.CHUNK_FREE] = I(chunk_n[U(half)])
                                meta[lo.CHUNKS_FREE] -= 1
                            else:
                                half = meta[lo.CHUNKS_USED]
                                meta[lo.CHUNKS_USED] += 1
                            a, c = (base + lo.CAP // 2) * lo.ENTRY_WORDS, half * (lo.CAP * lo.ENTRY_WORDS)
                            for j in range(lo.CAP // 2 * lo.ENTRY_WORDS):
                                chunks[U(c + j)] = chunks[U(a + j)]
                            directory = books[U(sb + lo.DIR)] >> 8
                            klass = (books[U(sb + lo.DIR)] & 0xFF) - 1
                            if klass < 0 or nchunks == lo.DIR_FIRST << klass:
                                # -- a larger directory
                                klass += 1
                                fresh = meta[U(lo.DIR_FREE + klass)] - 1
                                if fresh >= 0:
                                    meta[U(lo.DIR_FREE + klass)] = I(dirs[U(fresh)])
                                else:
                                    fresh = meta[lo.DIRS_USED]
                                    meta[lo.DIRS_USED] += lo.DIR_FIRST << klass
                                    meta[lo.DIR_CLASS] = max(meta[lo.DIR_CLASS], klass)
                                if klass == 0:
                                    dirs[U(fresh)] = chunk
                                else:
                                    for j in range(nchunks):
                                        dirs[U(fresh + j)] = dirs[U(directory + j)]
                                    dirs[U(directory)] = meta[U(lo.DIR_FREE + klass - 1)]
                                    meta[U(lo.DIR_FREE + klass - 1)] = directory + 1
                                directory = fresh
                                books[U(sb + lo.DIR)] = directory << 8 | (klass + 1)
                                room = I(0)
                            for j in range(directory + nchunks, directory + place + 1, -1):
                                dirs[U(j)] = dirs[U(j - 1)]
                            dirs[U(directory + place + 1)] = half
                            chunk_n[U(chunk)] = lo.CAP // 2
                            chunk_n[U(half)] = lo.CAP // 2
                            if place == nchunks - 1:
                                books[U(sb + lo.CHUNK)] = half
                                books[U(sb + lo.LEVELS_IN)] = lo.CAP // 2
                            nchunks += 1
                            books[U(sb + lo.CHUNKS)] = nchunks
                            top = I(lo.CAP // 2)
                            if pos > lo.CAP // 2:
                                chunk, place, pos = half, place + 1, pos - lo.CAP // 2
                                base = chunk * lo.CAP
                        for j in range((base + top) * 2 - 1, (base + pos) * 2 - 1, -1):
                            chunks[U(j + 2)] = chunks[U(j)]
                        chunks[U((base + pos) * 2)] = want
                        chunks[U((base + pos) * 2 + 1)] = lv
                        if place == nchunks - 1:
                            books[U(sb + lo.LEVELS_IN)] = top + 1
                        else:
                            chunk_n[U(chunk)] = top + 1
                    if everything and levels4[U(lv * 8 + lo.L_DIRTY)] == 0:
                        dirty[U(dn * 4)] = want
                        dirty[U(dn * 4 + 1)] = slot << 1 | ls
                        dirty[U(dn * 4 + 2)] = lv
                        dirty[U(dn * 4 + 3)] = 0
                        dn += 1
                        levels4[U(lv * 8 + lo.L_DIRTY)] = dn
                    # -- the order, at the back of its queue
                    if idx == 0:
                        idx = meta[lo.ORDER_FREE]
                        if idx:
                            meta[lo.ORDER_FREE] = I(orders4[U(idx * 8 + lo.O_NEXT)])
                            meta[lo.ORDERS_FREE] -= 1
                        else:
                            idx = meta[lo.ORDERS_USED]
                            meta[lo.ORDERS_USED] += 1
                        if not aggregate:
                            table[U(hp * 2)] = oid
                            table[U(hp * 2 + 1)] = idx | (slot + 1) << 32
                            meta[lo.HASHED] += 1
                    ahead = I(levels4[U(lv * 8 + lo.L_TAIL)])
                    orders[U(idx * lo.ORDER_WORDS)] = oid
                    orders[U(idx * lo.ORDER_WORDS + 1)] = I(words[U(p + 1)])
                    orders4[U(idx * 8 + lo.O_SIZE)] = new_size
                    orders4[U(idx * 8 + lo.O_LEVEL)] = lv << 2 | aggregate << 1 | ls
                    orders4[U(idx * 8 + lo.O_PREV)] = ahead
                    orders4[U(idx * 8 + lo.O_NEXT)] = 0
                    levels4[U(lv * 8 + lo.L_TAIL)] = idx
                    if ahead:
                        orders4[U(ahead * 8 + lo.O_NEXT)] = idx
                    else:
                        levels4[U(lv * 8 + lo.L_HEAD)] = idx
                    levels[U(lv * lo.LEVEL_WORDS + 1)] += new_size
                    levels4[U(lv * 8 + lo.L_COUNT)] += U(1)
                    new_size = I(0)
                elif purpose == DROP:
                    # -- an empty level goes
                    purpose = I(NOTHING)
                    at = I(levels4[U(lv * 8 + lo.L_DIRTY)])
                    if at:
                        dirty[U(at * 4 - 2)] = 0
                        if dirty[U(at * 4 - 1)] == 0:
                            x = U(want ^ (slot << 1 | ls) * 0x5851_F42D) * U(lo.GRAVE_MULTIPLIER)
                            h = I(x >> U(24)) & gmask
                            while graves[U(h)]:
                                h = (h + 1) & gmask
                            graves[U(h)] = at
                            dirty[U(at * 4 - 1)] = h + 1
                            meta[lo.GRAVES] += 1
                    levels4[U(lv * 8 + lo.L_HEAD)] = meta[lo.LEVEL_FREE]
                    meta[lo.LEVEL_FREE] = lv
                    meta[lo.LEVELS_FREE] += 1
                    books[U(b + lo.LEVELS + ls)] -= 1
                    for j in range((base + pos) * 2, (base + top) * 2):
                        chunks[U(j - 2)] = chunks[U(j)]
                    top -= 1
                    if place == nchunks - 1:
                        books[U(sb + lo.LEVELS_IN)] = top
                    else:
                        chunk_n[U(chunk)] = top
                    if nchunks > 1 and top < lo.CAP // 4:
                        # -- a nearly empty chunk joins a neighbour, so that a directory stays short
                        directory = books[U(sb + lo.DIR)] >> 8
                        chunk_n[U(books[U(sb + lo.CHUNK)])] = books[U(sb + lo.LEVELS_IN)]
                        mate = place - 1 if place else I(0)
                        into, source = I(dirs[U(directory + mate)]), I(dirs[U(directory + mate + 1)])
                        na, nz = I(chunk_n[U(into)]), I(chunk_n[U(source)])
                        if na + nz <= lo.CAP // 2:
                            a, c = (into * lo.CAP + na) * 2, source * (lo.CAP * 2)
                            for j in range(nz * 2):
                                chunks[U(a + j)] = chunks[U(c + j)]
                            chunk_n[U(into)] = na + nz
                            chunk_n[U(source)] = meta[lo.CHUNK_FREE]
                            meta[lo.CHUNK_FREE] = source
                            meta[lo.CHUNKS_FREE] += 1
                            nchunks -= 1
                            for j in range(directory + mate + 1, directory + nchunks):
                                dirs[U(j)] = dirs[U(j + 1)]
                            books[U(sb + lo.CHUNKS)] = nchunks
                            chunk = I(dirs[U(directory + nchunks - 1)])
                            books[U(sb + lo.CHUNK)] = chunk
                            books[U(sb + lo.LEVELS_IN)] = I(chunk_n[U(chunk)])
                elif purpose == AGGREGATE_SET:
                    # -- all of a level gives way to one sum
                    purpose, new_size = I(NOTHING), size
                    if lv:
                        bulk, bulk_level = ONE_LEVEL, lv
                        if not size:
                            purpose, drop_key, drop_side = I(DROP), want, side
                else:  # AGGREGATE_CANCEL
                    purpose = I(NOTHING)
                    cur = I(levels4[U(lv * 8 + lo.L_HEAD)]) if lv else I(0)
                    if cur == 0 or not orders4[U(cur * 8 + lo.O_LEVEL)] & U(2):
                        why = kinds.UNKNOWN_CANCEL
                        books[U(counts + why)] += 1
                    else:
                        before = I(orders4[U(cur * 8 + lo.O_SIZE)])
                        if size == 0:
                            after, why = before, kinds.ZERO_SIZE
                            books[U(counts + why)] += 1
                        elif size >= before:
                            effect, gone, keep = I(rows.EFFECT_REMOVED), cur, False
                            if size > before:
                                why = kinds.OVERSIZE_CANCEL
                                books[U(counts + why)] += 1
                        else:
                            effect, resized, to_size = I(rows.EFFECT_REDUCED), cur, before - size
                            after = to_size
                continue

            # -- policy `execute`: once a record, when it ends an event that leaves the book crossed
            if not ends or policy != EXECUTING or uncrossed:
                break
            uncrossed = True
            sb = b + lo.SIDE
            nb_, na_ = books[U(sb + lo.LEVELS_IN)], books[U(sb + 4 + lo.LEVELS_IN)]
            if nb_ == 0 or na_ == 0:
                break
            cb, ca = books[U(sb + lo.CHUNK)], books[U(sb + 4 + lo.CHUNK)]
            db, da = books[U(sb + lo.CHUNKS)] - 1, books[U(sb + 4 + lo.CHUNKS)] - 1
            jb, ja = nb_ - 1, na_ - 1
            left = I(0)
            size_b = levels[U(chunks[U((cb * lo.CAP + jb) * 2 + 1)] * lo.LEVEL_WORDS + 1)]
            size_a = levels[U(chunks[U((ca * lo.CAP + ja) * 2 + 1)] * lo.LEVEL_WORDS + 1)]
            while (
                jb >= 0
                and ja >= 0
                and chunks[U((cb * lo.CAP + jb) * 2)] >= ~chunks[U((ca * lo.CAP + ja) * 2)]
            ):
                step = min(size_b, size_a)
                left += step
                size_b -= step
                size_a -= step
                if size_b == 0:
                    jb -= 1
                    if jb < 0 and db > 0:
                        db -= 1
                        cb = I(dirs[U((books[U(sb + lo.DIR)] >> 8) + db)])
                        jb = I(chunk_n[U(cb)]) - 1
                    if jb >= 0:
                        size_b = levels[U(chunks[U((cb * lo.CAP + jb) * 2 + 1)] * lo.LEVEL_WORDS + 1)]
                if size_a == 0:
                    ja -= 1
                    if ja < 0 and da > 0:
                        da -= 1
                        ca = I(dirs[U((books[U(sb + 4 + lo.DIR)] >> 8) + da)])
                        ja = I(chunk_n[U(ca)]) - 1
                    if ja >= 0:
                        size_a = levels[U(chunks[U((ca * lo.CAP + ja) * 2 + 1)] * lo.LEVEL_WORDS + 1)]
            if left == 0:
                break
            bulk = EXECUTE

        # --- done with the record --------------------------------------------------------------------------------
        if not fake:
            if flags & units.F_MAYBE_BAD_BOOK:
                state |= lo.MAYBE_BAD
                books[U(counts + kinds.MAYBE_BAD_BOOK)] += 1
            if with_effects:
                at = out_effects * 4
                out_effects += 1
                effects[U(at)] = o
                effects[U(at + 1)] = books[U(b + lo.EFFECTS)]
                effects[U(at + 2)] = k | before << 32
                effects[U(at + 3)] = after | effect << 32 | why << 40
                if flags & units.F_SNAPSHOT:
                    effects[U(at + 1)] = o
                else:
                    books[U(b + lo.EFFECTS)] = out_effects
        elif action == units.ACTION_NONE:
            books[U(counts + kinds.EVENT_UNFINISHED)] += 1

        if not ends:
            if flags & units.F_SNAPSHOT and not books[U(b + lo.FLAGS)] & rows.BOOK_SNAPSHOT:
                books[U(b + lo.FLAGS)] |= rows.BOOK_SNAPSHOT
                if books[U(b + lo.TOUCHED)] != batch:
                    books[U(b + lo.TOUCHED)] = batch
                    touched[U(meta[lo.TOUCHED_BOOKS])] = slot
                    meta[lo.TOUCHED_BOOKS] += 1
            books[U(b + lo.STATE)] = state
            k += 1
            continue

        # --- the event has ended: what is to be published --------------------------------------------------------
        if state & lo.FILLED:
            meta[lo.EVENT] += 1
            books[U(b + lo.EVENT_NO)] = meta[lo.EVENT]
        state &= lo.MAYBE_BAD
        books[U(b + lo.STATE)] = state
        chain = books[U(b + lo.TRADES)]
        if chain:
            while chain:
                at = (chain - 1) * 7 + 1
                chain = trades[U(at)]
                trades[U(at)] = o
            books[U(b + lo.TRADES)] = 0
            meta[lo.OPEN_TRADES] -= 1
        if with_effects:
            chain = books[U(b + lo.EFFECTS)]
            while chain:
                at = (chain - 1) * 4 + 1
                chain = effects[U(at)]
                effects[U(at)] = o
            books[U(b + lo.EFFECTS)] = 0
        if books[U(b + lo.TOUCHED)] != batch:
            books[U(b + lo.TOUCHED)] = batch
            touched[U(meta[lo.TOUCHED_BOOKS])] = slot
            meta[lo.TOUCHED_BOOKS] += 1

        sb = b + lo.SIDE
        bid_px, bid_sz, bid_ct = I(_UNDEF), I(0), I(0)
        ask_px, ask_sz, ask_ct = I(_UNDEF), I(0), I(0)
        top = books[U(sb + lo.LEVELS_IN)]
        if top:
            at = (books[U(sb + lo.CHUNK)] * lo.CAP + top - 1) * 2
            bid_px = chunks[U(at)]
            lv = chunks[U(at + 1)]
            bid_sz, bid_ct = levels[U(lv * lo.LEVEL_WORDS + 1)], I(levels4[U(lv * 8 + lo.L_COUNT)])
        top = books[U(sb + 4 + lo.LEVELS_IN)]
        if top:
            at = (books[U(sb + 4 + lo.CHUNK)] * lo.CAP + top - 1) * 2
            ask_px = ~chunks[U(at)]
            lv = chunks[U(at + 1)]
            ask_sz, ask_ct = levels[U(lv * lo.LEVEL_WORDS + 1)], I(levels4[U(lv * 8 + lo.L_COUNT)])
        shown = I(rows.BOOK_MAYBE_BAD) if state & lo.MAYBE_BAD else I(0)
        meets = bid_ct != 0 and ask_ct != 0 and bid_px >= ask_px
        if meets:
            shown |= rows.BOOK_CROSSED if bid_px > ask_px else rows.BOOK_LOCKED
        books[U(b + lo.FLAGS)] = shown
        at = b + lo.BBO
        if (
            books[U(at)] != bid_px or books[U(at + 1)] != bid_sz or books[U(at + 2)] != bid_ct
            or books[U(at + 3)] != ask_px or books[U(at + 4)] != ask_sz or books[U(at + 5)] != ask_ct
        ):  # fmt: skip
            books[U(at)], books[U(at + 1)], books[U(at + 2)] = bid_px, bid_sz, bid_ct
            books[U(at + 3)], books[U(at + 4)], books[U(at + 5)] = ask_px, ask_sz, ask_ct
            at = out_bbo * 9
            out_bbo += 1
            bbo[U(at)] = o
            bbo[U(at + 1)] = books[U(b + lo.TS_EVENT)]
            bbo[U(at + 2)] = books[U(b + lo.TS_RECV)]
            bbo[U(at + 3)] = books[U(b + lo.HEAD)] | shown << 48
            bbo[U(at + 4)] = bid_px
            bbo[U(at + 5)] = ask_px
            bbo[U(at + 6)] = bid_sz
            bbo[U(at + 7)] = ask_sz
            bbo[U(at + 8)] = bid_ct | ask_ct << 32

        # --- the overlay of a book whose sides meet (uncross.py) -------------------------------------------------
        if policy == UNCROSS and (meets or books[U(b + lo.AUCTION)]):
            auction_px = auction_sz = I(0)
            bid_px, bid_sz, bid_ct = I(_UNDEF), I(0), I(0)
            ask_px, ask_sz, ask_ct = I(_UNDEF), I(0), I(0)
            if meets:
                # -- both sides from their best while they meet
                cb, ca = books[U(sb + lo.CHUNK)], books[U(sb + 4 + lo.CHUNK)]
                db, da = books[U(sb + lo.CHUNKS)] - 1, books[U(sb + 4 + lo.CHUNKS)] - 1
                jb, ja = books[U(sb + lo.LEVELS_IN)] - 1, books[U(sb + 4 + lo.LEVELS_IN)] - 1
                lb, la = chunks[U((cb * lo.CAP + jb) * 2 + 1)], chunks[U((ca * lo.CAP + ja) * 2 + 1)]
                pb, pa = levels[U(lb * lo.LEVEL_WORDS)], ~levels[U(la * lo.LEVEL_WORDS)]
                size_b, size_a = levels[U(lb * lo.LEVEL_WORDS + 1)], levels[U(la * lo.LEVEL_WORDS + 1)]
                high = low = I(0)
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
                            cb = I(dirs[U((books[U(sb + lo.DIR)] >> 8) + db)])
                            jb = I(chunk_n[U(cb)]) - 1
                        lb = chunks[U((cb * lo.CAP + jb) * 2 + 1)] if jb >= 0 else I(0)
                        pb, size_b = levels[U(lb * lo.LEVEL_WORDS)], levels[U(lb * lo.LEVEL_WORDS + 1)]
                    if size_a == 0:
                        ja -= 1
                        if ja < 0 and da > 0:
                            da -= 1
                            ca = I(dirs[U((books[U(sb + 4 + lo.DIR)] >> 8) + da)])
                            ja = I(chunk_n[U(ca)]) - 1
                        la = chunks[U((ca * lo.CAP + ja) * 2 + 1)] if ja >= 0 else I(0)
                        pa, size_a = ~levels[U(la * lo.LEVEL_WORDS)], levels[U(la * lo.LEVEL_WORDS + 1)]
                # -- what remains of the level in which each side stopped
                if lb:
                    bid_px, bid_sz, bid_ct = pb, size_b, I(levels4[U(lb * 8 + lo.L_COUNT)])
                    part = levels[U(lb * lo.LEVEL_WORDS + 1)] - size_b
                    cur = I(levels4[U(lb * 8 + lo.L_HEAD)])
                    while part and I(orders4[U(cur * 8 + lo.O_SIZE)]) <= part:
                        part -= I(orders4[U(cur * 8 + lo.O_SIZE)])
                        cur = I(orders4[U(cur * 8 + lo.O_NEXT)])
                        bid_ct -= 1
                if la:
                    ask_px, ask_sz, ask_ct = pa, size_a, I(levels4[U(la * 8 + lo.L_COUNT)])
                    part = levels[U(la * lo.LEVEL_WORDS + 1)] - size_a
                    cur = I(levels4[U(la * 8 + lo.L_HEAD)])
                    while part and I(orders4[U(cur * 8 + lo.O_SIZE)]) <= part:
                        part -= I(orders4[U(cur * 8 + lo.O_SIZE)])
                        cur = I(orders4[U(cur * 8 + lo.O_NEXT)])
                        ask_ct -= 1
                # -- the price: least surplus, then closest to the last trade, then the lowest
                last = books[U(b + lo.LAST_PX)]
                anchor = (low & high) + ((low ^ high) >> 1) if last == _UNDEF else last
                least, nearest = I(0), U(0)
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
                    surplus = I(0)
                    if lb and at_px <= bid_px:
                        surplus = bid_sz
                        c, j, d = cb, jb, db
                        while candidate == 0 or surplus <= least:
                            j -= 1
                            if j < 0 and d > 0:
                                d -= 1
                                c = I(dirs[U((books[U(sb + lo.DIR)] >> 8) + d)])
                                j = I(chunk_n[U(c)]) - 1
                            if j < 0 or chunks[U((c * lo.CAP + j) * 2)] < at_px:
                                break
                            surplus += levels[U(chunks[U((c * lo.CAP + j) * 2 + 1)] * lo.LEVEL_WORDS + 1)]
                    elif la and at_px >= ask_px:
                        surplus = ask_sz
                        c, j, d = ca, ja, da
                        while candidate == 0 or surplus <= least:
                            j -= 1
                            if j < 0 and d > 0:
                                d -= 1
                                c = I(dirs[U((books[U(sb + 4 + lo.DIR)] >> 8) + d)])
                                j = I(chunk_n[U(c)]) - 1
                            if j < 0 or ~chunks[U((c * lo.CAP + j) * 2)] > at_px:
                                break
                            surplus += levels[U(chunks[U((c * lo.CAP + j) * 2 + 1)] * lo.LEVEL_WORDS + 1)]
                    distance = U(at_px) - U(anchor) if at_px >= anchor else U(anchor) - U(at_px)
                    if (
                        candidate == 0 or surplus < least
                        or (surplus == least and (distance < nearest or (distance == nearest and at_px < auction_px)))
                    ):  # fmt: skip
                        least, nearest, auction_px = surplus, distance, at_px
            at = b + lo.AUCTION
            present = I(1) if meets else I(0)
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
                auctions[U(at + 1)] = books[U(b + lo.TS_EVENT)]
                auctions[U(at + 2)] = books[U(b + lo.TS_RECV)]
                auctions[U(at + 3)] = books[U(b + lo.HEAD)] | present << 48
                auctions[U(at + 4)] = auction_px
                auctions[U(at + 5)] = auction_sz
                auctions[U(at + 6)] = bid_px
                auctions[U(at + 7)] = ask_px
                auctions[U(at + 8)] = bid_sz
                auctions[U(at + 9)] = ask_sz
                auctions[U(at + 10)] = bid_ct | ask_ct << 32
        k += 1

    meta[lo.POSITION] = k
    meta[lo.DIRTY] = dn
    meta[lo.BBO_ROWS], meta[lo.TRADE_ROWS], meta[lo.AUCTION_ROWS] = out_bbo, out_trades, out_auctions
    meta[lo.EFFECT_ROWS] = out_effects


@nb.njit(nb.void(_I8, _I8, _I8, _U4, _U4, _I8, _I4, _U4, _I8, _I8), cache=True, nogil=True)
def flush(
    meta: Any, books: Any, levels: Any, levels4: Any, held: Any, dirty: Any, graves: Any, touched: Any,
    level_rows: Any, touched_rows: Any,
) -> None:  # fmt: skip
    """Close a batch: rows of the levels and books touched; meta[DIRTY], meta[TOUCHED_BOOKS] become their counts.

    `held`: the slots of all records held back. Levels of books inside a snapshot stay in the dirty list; meta[PENDING]
    says how many.
    """
    batch = meta[lo.BATCH]
    for i in range(held.shape[0]):
        slot = I(held[U(i)])
        b = slot * lo.BOOK_WORDS
        if not books[U(b + lo.FLAGS)] & rows.BOOK_OPEN:
            books[U(b + lo.FLAGS)] |= rows.BOOK_OPEN
            if books[U(b + lo.TOUCHED)] != batch:
                books[U(b + lo.TOUCHED)] = batch
                touched[U(meta[lo.TOUCHED_BOOKS])] = slot
                meta[lo.TOUCHED_BOOKS] += 1
    for i in range(meta[lo.TOUCHED_BOOKS]):
        b = I(touched[U(i)]) * lo.BOOK_WORDS
        touched_rows[U(i * 4)] = books[U(b + lo.ORDINAL)]
        touched_rows[U(i * 4 + 1)] = books[U(b + lo.TS_EVENT)]
        touched_rows[U(i * 4 + 2)] = books[U(b + lo.TS_RECV)]
        touched_rows[U(i * 4 + 3)] = books[U(b + lo.HEAD)] | books[U(b + lo.FLAGS)] << 48
    out = waiting = I(0)
    for i in range(meta[lo.DIRTY]):
        key, owner, lv = dirty[U(i * 4)], dirty[U(i * 4 + 1)], dirty[U(i * 4 + 2)]
        grave = dirty[U(i * 4 + 3)] & 0xFFFF_FFFF
        if grave:
            graves[U(grave - 1)] = 0
        size = count = I(0)
        if owner < 0:
            owner, size, count = -2 - owner, lv, dirty[U(i * 4 + 3)] >> 32
            b = (owner >> 1) * lo.BOOK_WORDS
        else:
            if lv:
                levels4[U(lv * 8 + lo.L_DIRTY)] = 0
                size, count = levels[U(lv * lo.LEVEL_WORDS + 1)], I(levels4[U(lv * 8 + lo.L_COUNT)])
            b = (owner >> 1) * lo.BOOK_WORDS
            if books[U(b + lo.STATE)] & lo.IN_SNAPSHOT:
                dirty[U(waiting * 4)], dirty[U(waiting * 4 + 1)] = key, owner
                dirty[U(waiting * 4 + 2)], dirty[U(waiting * 4 + 3)] = lv, 0
                waiting += 1
                continue
        letter = I(units.SIDE_ASK) if owner & 1 else I(units.SIDE_BID)
        level_rows[U(out * 4)] = books[U(b + lo.HEAD)] | letter << 48
        level_rows[U(out * 4 + 1)] = key ^ -(owner & 1)
        level_rows[U(out * 4 + 2)] = size
        level_rows[U(out * 4 + 3)] = count
        out += 1
    meta[lo.DIRTY], meta[lo.PENDING], meta[lo.GRAVES] = out, waiting, 0
