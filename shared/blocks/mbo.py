"""Columns of MBO records and back. What becomes of them: shared/blocks/__init__.py.

Everything is int64 and wraps, so any bit pattern of any field comes back exactly (u64 fields are read through a
signed view of the same bytes). Columns hold zigzag deltas; `bits.pack` cuts them to the bits they need.

The first columns are in stream order, the others in group order (instrument by instrument): the records of one
instrument lie together. Chains of deltas begin anew in every group, at the group's `starts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

COLUMNS = 10
STREAM = 3  # columns in stream order
GROUP, RECV, SEQ, LATENCY, IN_DELTA, ORDER, PRICE, SIZE, CODE, META = range(COLUMNS)
STARTS = 3  # values by group at which its chains begin
S_ORDER, S_PRICE, S_META = range(STARTS)
CODES_MOST = 256  # action, side and flags are numbered in a block if there are no more of them together
UNDEF = np.int64(2**63 - 1)
LOW63 = np.int64(2**63 - 1)
FAR = np.int64(2**62)  # prices below this and above its negative have differences that do not wrap


@njit(cache=True, error_model="numpy")
def zig(x: Any) -> Any:
    return (x << 1) ^ (x >> 63)


@njit(cache=True, error_model="numpy")
def zag(u: Any) -> Any:
    return ((u >> 1) & LOW63) ^ -(u & 1)


@njit(cache=True, error_model="numpy")
def gcd(a: Any, b: Any) -> Any:
    while b:
        a, b = b, a % b
    return a


@njit(cache=True, error_model="numpy")
def inverse(odd: Any) -> Any:
    """The number by which a product with `odd` is divided, modulo 2^64: division for a multiplication."""
    found = odd
    for _ in range(5):
        found *= 2 - odd * found
    return found


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def group_rows(instrument: Any, groups: Any, ids: Any, counts: Any) -> Any:
    """Number instruments by first appearance: the group of each row, ids and counts by group; how many there are."""
    n = len(instrument)
    bits = 6
    while (1 << bits) < 2 * n:
        bits += 1
    table = np.full(1 << bits, -1, np.int32)
    mask = (1 << bits) - 1
    found = 0
    last_id = np.int64(-1)
    group = np.int64(0)
    for i in range(n):
        key = np.int64(instrument[i])
        if key != last_id:
            slot = ((key * 2654435769) >> 7) & mask
            while True:
                g = table[slot]
                if g < 0:
                    table[slot] = found
                    ids[found] = key
                    counts[found] = 0
                    group = np.int64(found)
                    found += 1
                    break
                if ids[g] == key:
                    group = np.int64(g)
                    break
                slot = (slot + 1) & mask
            last_id = key
        groups[i] = group
        counts[group] += 1
    return found


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def code_prices(column: Any, unit: Any) -> Any:
    """Price deltas in place to what is stored: 0 for an undefined price, else its zigzag in units, plus one."""
    shift = np.int64(0)
    odd = unit
    while odd & 1 == 0:
        odd >>= 1
        shift += 1
    factor = inverse(odd)
    for p in range(len(column)):
        d = column[p]
        column[p] = np.int64(0) if d == UNDEF else zig((d >> shift) * factor) + 1


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def encode(
    rows: Any,
    ordinals: Any,
    cols: Any,
    ids: Any,
    counts: Any,
    starts: Any,
    base: Any,
    codes: Any,
    missing: Any,
) -> Any:
    """Columns of `rows` (MBO_SIGNED) with their ordinals. Returns the number of groups.

    base: [ts_recv, price unit (0: prices as they are), number of codes (0: codes as they are), missing ordinals, and
    the least and greatest of ts_recv and ts_event (UNDEF and 0 if none is defined: ≥ 0)].
    """
    n = len(rows)
    found = group_rows(rows["instrument_id"], cols[GROUP], ids, counts)
    place = np.empty(found, np.int64)
    total = 0
    for g in range(found):
        place[g] = total
        total += counts[g]
        starts[S_ORDER, g] = 0
        starts[S_PRICE, g] = UNDEF  # none seen
        starts[S_META, g] = -1  # not begun
    order_of = np.empty(found, np.int64)
    price_of = np.zeros(found, np.int64)
    meta_of = np.empty(found, np.int64)
    last_seq = np.zeros(256, np.int64)
    table = np.full(1024, -1, np.int64)
    slot_of = np.empty(1024, np.int64)
    known = 0
    gaps = 0
    recv = np.int64(rows[0]["ts_recv"])
    recv_min = event_min = UNDEF
    recv_max = event_max = np.int64(0)
    ordinal = ordinals[0]
    unit = np.int64(0)
    reach = np.int64(0)  # of a delta in units
    factor = np.int64(1)
    shift = np.int64(0)
    low_bits = np.int64(0)
    near = True
    base[0] = recv
    for i in range(n):
        r = rows[i]
        while ordinal < ordinals[i]:
            missing[gaps] = ordinal
            gaps += 1
            ordinal += 1
        ordinal += 1
        g = cols[GROUP, i]
        p = place[g]
        place[g] = p + 1
        channel = r["channel_id"]
        meta = (np.int64(r["length"]) | np.int64(r["rtype"]) << 8 | np.int64(r["publisher_id"]) << 16
                | np.int64(channel) << 32)  # fmt: skip
        order = r["order_id"]
        px = r["price"]
        if starts[S_META, g] < 0:
            starts[S_META, g] = meta_of[g] = meta
            starts[S_ORDER, g] = order_of[g] = order
        cols[META, p] = meta ^ meta_of[g]
        meta_of[g] = meta
        cols[ORDER, p] = zig(order - order_of[g])
        order_of[g] = order

        now = r["ts_recv"]
        cols[RECV, i] = zig(now - recv)
        recv = now
        if now >= 0:
            recv_min = min(recv_min, now)
            recv_max = max(recv_max, now)
        event = r["ts_event"]
        if event >= 0:
            event_min = min(event_min, event)
            event_max = max(event_max, event)
        cols[LATENCY, p] = zig(now - event)
        seq = np.int64(r["sequence"])
        cols[SEQ, i] = zig(seq - last_seq[channel])
        last_seq[channel] = seq
        cols[IN_DELTA, p] = zig(np.int64(r["ts_in_delta"]))
        cols[SIZE, p] = np.int64(r["size"])

        if px == UNDEF:
            cols[PRICE, p] = UNDEF
        else:
            if px >= FAR or px <= -FAR:
                near = False
            if starts[S_PRICE, g] == UNDEF:
                starts[S_PRICE, g] = price_of[g] = px
            d = px - price_of[g]
            price_of[g] = px
            cols[PRICE, p] = d
            if d != 0 and near:
                q = (d >> shift) * factor  # d / unit, if there is no remainder
                if d & low_bits or q > reach or q < -reach:
                    unit = gcd(unit, abs(d))
                    reach = UNDEF // unit
                    shift = np.int64(0)
                    odd = unit
                    while odd & 1 == 0:
                        odd >>= 1
                        shift += 1
                    low_bits = (np.int64(1) << shift) - 1
                    factor = inverse(odd)

        code = np.int64(r["action"]) << 16 | np.int64(r["side"]) << 8 | np.int64(r["flags"])
        if known <= CODES_MOST:
            slot = (code * 40503 >> 4) & 1023
            while table[slot] != code:
                if table[slot] < 0:
                    table[slot] = code
                    slot_of[slot] = known
                    if known < CODES_MOST:
                        codes[known] = code
                    known += 1
                    break
                slot = (slot + 1) & 1023
            cols[CODE, p] = slot_of[slot]
    if known > CODES_MOST:  # made records only
        known = 0
        total = 0
        for g in range(found):
            place[g] = total
            total += counts[g]
        for i in range(n):
            g = cols[GROUP, i]
            r = rows[i]
            cols[CODE, place[g]] = (
                np.int64(r["action"]) << 16 | np.int64(r["side"]) << 8 | np.int64(r["flags"])
            )
            place[g] += 1
    if near:
        unit = max(unit, np.int64(1))
        code_prices(cols[PRICE], unit)
    else:
        unit = np.int64(0)
        price_of[:] = 0
        total = 0
        for g in range(found):
            starts[S_PRICE, g] = 0
            place[g] = total
            total += counts[g]
        for i in range(n):
            g = cols[GROUP, i]
            px = rows[i]["price"]
            cols[PRICE, place[g]] = zig(px - price_of[g])
            price_of[g] = px
            place[g] += 1
    base[1] = unit
    base[2] = known
    base[3] = gaps
    base[4] = recv_min
    base[5] = recv_max
    base[6] = event_min
    base[7] = event_max
    return found


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def decode(
    cols: Any, ids: Any, counts: Any, starts: Any, recv: Any, unit: Any, codes: Any, missing: Any, first: Any,
    only: Any, rows: Any, ordinals: Any,
) -> Any:  # fmt: skip
    """Rows (MBO_SIGNED) and ordinals back from columns: all in stream order, or those of group `only` (≥ 0): then only
    that group's part of the group-ordered columns is read, but all of META.

    Returns the number of rows written; -1 if the columns contradict each other.
    """
    n = cols.shape[1]
    found = len(ids)
    place = np.empty(found, np.int64)
    end = np.empty(found, np.int64)
    total = 0
    for g in range(found):
        place[g] = total
        total += counts[g]
        end[g] = total
    order_of = starts[S_ORDER].copy()
    price_of = starts[S_PRICE].copy()
    meta_of = starts[S_META].copy()
    last_seq = np.zeros(256, np.int64)
    gap = 0
    ordinal = first
    out = 0
    for i in range(n):
        while gap < len(missing) and missing[gap] == ordinal:
            gap += 1
            ordinal += 1
        g = cols[GROUP, i]
        if g < 0 or g >= found or place[g] >= end[g]:
            return -1
        p = place[g]
        place[g] = p + 1
        recv += zag(cols[RECV, i])
        meta = meta_of[g] ^ cols[META, p]
        meta_of[g] = meta
        channel = (meta >> 32) & 255
        seq = last_seq[channel] + zag(cols[SEQ, i])
        last_seq[channel] = seq
        if only < 0 or g == only:
            if out >= len(rows):
                return -1
            order = order_of[g] + zag(cols[ORDER, p])
            order_of[g] = order
            value = cols[PRICE, p]
            if unit and value == 0:
                price = UNDEF
            else:
                price = price_of[g] + (zag(value - 1) * unit if unit else zag(value))
                price_of[g] = price
            code = cols[CODE, p]
            if len(codes):
                if code < 0 or code >= len(codes):
                    return -1
                code = codes[code]
            r = rows[out]
            r["length"] = meta & 255
            r["rtype"] = (meta >> 8) & 255
            r["publisher_id"] = (meta >> 16) & 65535
            r["instrument_id"] = ids[g]
            r["ts_event"] = recv - zag(cols[LATENCY, p])
            r["order_id"] = order
            r["price"] = price
            r["size"] = cols[SIZE, p]
            r["flags"] = code & 255
            r["channel_id"] = channel
            r["action"] = (code >> 16) & 255
            r["side"] = (code >> 8) & 255
            r["ts_recv"] = recv
            r["ts_in_delta"] = zag(cols[IN_DELTA, p])
            r["sequence"] = seq
            ordinals[out] = ordinal
            out += 1
        ordinal += 1
    return out
