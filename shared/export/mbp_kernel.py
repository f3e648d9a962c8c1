"""The numba kernel of derived MBP rows: levels of one book followed record by record from what the engine did.

The engine decides what a record does (its effects); this only keeps sums by price, sorted, best at the end, and where
each order stands. One function on purpose: helpers that take arrays cost twice the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shared.blocks.mbo import UNDEF
from shared.records import (
    EFFECT_ADDED,
    EFFECT_CLEARED,
    EFFECT_MOVED,
    EFFECT_REDUCED,
    EFFECT_REMOVED,
    EFFECT_REPLACED,
)

BID, ASK, TRADE, FILL = ord("B"), ord("A"), ord("T"), ord("F")
F_LAST, F_SNAPSHOT = 128, 32
U32_MAX = np.int64(2**32 - 1)
FREE = -(2**63)  # of a table's price column: an empty slot
ROOM = 4  # free places a side and in the table must have before a record is taken


@njit(cache=True, boundscheck=False)
def find(table: Any, key: Any) -> Any:
    """Slot of an order id, or of the free place where it belongs."""
    mask = len(table) - 1
    slot = ((key * 0x9E3779B1) ^ (key >> 17)) & mask
    while table[slot, 1] != FREE and table[slot, 0] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, boundscheck=False)
def forget(table: Any, slot: Any) -> Any:
    """Empty a slot and move back what was displaced by it."""
    mask = len(table) - 1
    hole = slot
    while True:
        slot = (slot + 1) & mask
        if table[slot, 1] == FREE:
            break
        home = ((table[slot, 0] * 0x9E3779B1) ^ (table[slot, 0] >> 17)) & mask
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            for k in range(3):
                table[hole, k] = table[slot, k]
            hole = slot
    table[hole, 1] = FREE


@njit(cache=True, boundscheck=False)
def change(levels: Any, used: Any, side: Any, price: Any, size: Any, count: Any) -> Any:
    """Add to the sums of a level, making or removing it; its index from the best, before it is removed."""
    sign = 1 if side == 0 else -1
    at = used[side] - 1
    while at >= 0 and sign * levels[side, at, 0] > sign * price:
        at -= 1
    if at < 0 or levels[side, at, 0] != price:
        at += 1
        for i in range(used[side], at, -1):
            for k in range(3):
                levels[side, i, k] = levels[side, i - 1, k]
        levels[side, at, 0] = price
        levels[side, at, 1] = 0
        levels[side, at, 2] = 0
        used[side] += 1
    index = used[side] - 1 - at
    levels[side, at, 1] += size
    levels[side, at, 2] += count
    if levels[side, at, 2] <= 0:
        used[side] -= 1
        for i in range(at, used[side]):
            for k in range(3):
                levels[side, i, k] = levels[side, i + 1, k]
    return index


@njit(cache=True, boundscheck=False)
def put(words: Any, touched: Any, depth: Any, rtype: Any, levels: Any, used: Any, out: Any) -> None:
    """An MBP row into `out` (6 words and 4 a level): the record of 7 `words`, its level, the best levels."""
    out[0] = words[0] & ~np.int64(0xFFFF) | rtype << 8 | len(out) * 2
    out[1] = words[1]
    out[2] = words[3]
    sized = words[4]  # size u32, flags, channel, action, side
    action = sized >> 48 & 0xFF
    side = sized >> 56 & 0xFF
    flags = sized >> 32 & 0xFF
    out[3] = sized & U32_MAX | action << 32 | side << 40 | flags << 48 | touched << 56
    out[4] = words[5]
    out[5] = words[6]
    for k in range(depth):
        to = 6 + 4 * k
        bid = used[0] - 1 - k
        ask = used[1] - 1 - k
        out[to] = levels[0, bid, 0] if bid >= 0 else UNDEF
        out[to + 1] = levels[1, ask, 0] if ask >= 0 else UNDEF
        sizes = np.int64(0)
        counts = np.int64(0)
        if bid >= 0:
            sizes = min(levels[0, bid, 1], U32_MAX)
            counts = levels[0, bid, 2]
        if ask >= 0:
            sizes |= min(levels[1, ask, 1], U32_MAX) << 32
            counts |= levels[1, ask, 2] << 32
        out[to + 2] = sizes
        out[to + 3] = counts


@njit(cache=True, boundscheck=False)
def follow(records: Any, words: Any, effects: Any, start: Any, depth: Any, rtype: Any, levels: Any, used: Any,
           table: Any, held: Any, out: Any, reach: Any, final: Any) -> Any:  # fmt: skip
    """Apply effects from `start` of records, given also as (n, 7) `words`; a row to `out` for each trade and each
    record that touches a level up to index `reach`.

    Databento's mbp-10 has a row for a change of the eleventh level too, and counts the index of a bid level that goes
    after it is gone, that of an ask level before (all 3,928 rows of the arl truth file); so with reach 10. Depth 1 has
    reach 0: changes of the best levels.

    A row has the record, the level it touched and the levels after it, see `put`. held: [record index of a
    trade whose fills are not booked yet or −1, whether a fill was seen]; `final`: nothing comes after, a held trade
    is shown. Returns (records done, rows made); stops early when there may be no room for the next record.
    """
    made = 0
    orders = used[2]
    for i in range(start, len(effects)):
        if (
            (orders + ROOM) * 2 > len(table)
            or max(used[0], used[1]) + ROOM > levels.shape[1]
            or made + ROOM > len(out)
        ):
            used[2] = orders
            return i, made
        e = effects[i]
        r = records[i]
        effect = e["effect"]
        action = r["action"]
        flags = r["flags"]
        # a trade is shown with the book after its first booked fill, or at once if none follows
        if held[0] >= 0 and not (
            action == FILL or (held[1] and effect in (EFFECT_REDUCED, EFFECT_REMOVED, EFFECT_MOVED))
        ):
            put(words[held[0]], 0, depth, rtype, levels, used, out[made])
            made += 1
            held[0] = -1
        index: Any = np.int64(2**31)
        if effect == EFFECT_CLEARED:
            used[0] = 0
            used[1] = 0
            orders = 0
            for slot in range(len(table)):
                table[slot, 1] = FREE
            index = 0
        elif effect != 0:
            order = r["order_id"]
            slot = find(table, order)
            before = np.int64(e["size_before"])
            after = np.int64(e["size_after"])
            known = table[slot, 1] != FREE
            if effect in (EFFECT_ADDED, EFFECT_REPLACED):
                if known:
                    index = min(index, change(levels, used, table[slot, 2], table[slot, 1], -before, -1))
                else:
                    orders += 1
                side = 0 if r["side"] == BID else 1
                table[slot, 0] = order
                table[slot, 1] = r["price"]
                table[slot, 2] = side
                index = min(index, change(levels, used, side, r["price"], after, 1))
            elif known:
                side = table[slot, 2]
                price = table[slot, 1]
                if effect == EFFECT_REMOVED:
                    bids = used[0]
                    index = change(levels, used, side, price, -before, -1)
                    if reach and used[0] < bids:
                        index = max(0, index - 1)
                    forget(table, slot)
                    orders -= 1
                elif effect == EFFECT_REDUCED:
                    index = change(levels, used, side, price, after - before, 0)
                else:  # moved: a modify goes to the record's side and price
                    to = 0 if r["side"] == BID else 1
                    if to == side and r["price"] == price:
                        index = change(levels, used, side, price, after - before, 0)
                    else:
                        index = change(levels, used, side, price, -before, -1)
                        index = min(index, change(levels, used, to, r["price"], after, 1))
                        table[slot, 1] = r["price"]
                        table[slot, 2] = to
        if action == TRADE:
            held[0] = i
            held[1] = 0
        elif action == FILL:
            held[1] = 1
        elif held[0] >= 0:  # the first booked fill of the trade
            put(words[held[0]], min(index, 255), depth, rtype, levels, used, out[made])
            made += 1
            held[0] = -1
        elif (
            effect == EFFECT_CLEARED
            or (not flags & F_SNAPSHOT and index <= reach)
            or (flags & F_SNAPSHOT and flags & F_LAST)  # the whole snapshot is there now
        ):
            put(words[i], min(index, 255), depth, rtype, levels, used, out[made])
            made += 1
    if final and held[0] >= 0:
        put(words[held[0]], 0, depth, rtype, levels, used, out[made])
        made += 1
        held[0] = -1
    used[2] = orders
    return len(effects), made
