"""The numba kernels of the block codec: rows to integer columns and back. What a column means: shared/blocks.py.

Everything is int64 and wraps, so any bit pattern of any field comes back exactly (u64 fields are read through a
signed view of the same bytes). Columns hold zigzag deltas; the caller cuts them to the bytes they need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shared.records import BBO, MBO


def _signed(layout: np.dtype[Any]) -> np.dtype[Any]:
    assert layout.names is not None
    return np.dtype([(name, layout[name].str.replace("u8", "i8")) for name in layout.names])


MBO_SIGNED = _signed(MBO)
BBO_SIGNED = _signed(BBO)
MBO_COLUMNS = 10
BBO_COLUMNS = 11
UNDEF = np.int64(2**63 - 1)
LOW63 = np.int64(2**63 - 1)
_ZERO: Any = np.int64(0)

# Columns of an MBO block. The first three are in stream order, the others in group order (instrument by instrument).
GROUP, RECV, SEQ, LATENCY, IN_DELTA, ORDER, PRICE, SIZE, CODE, META = range(10)
# Columns of a BBO block: three in stream order, the rest in group order.
B_GROUP, B_ORDINAL, B_RECV, B_LATENCY, B_META, B_BID, B_ASK, B_BID_SZ, B_ASK_SZ, B_BID_CT, B_ASK_CT = range(
    11
)


@njit(cache=True, error_model="numpy")
def _zig(x: Any) -> Any:
    return (x << 1) ^ (x >> 63)


@njit(cache=True, error_model="numpy")
def _zag(u: Any) -> Any:
    return ((u >> 1) & LOW63) ^ -(u & 1)


@njit(cache=True, error_model="numpy")
def _gcd(a: Any, b: Any) -> Any:
    while b:
        a, b = b, a % b
    return a


@njit(cache=True, error_model="numpy", boundscheck=False)
def group_rows(instrument: Any, groups: Any, ids: Any, counts: Any, perm: Any) -> Any:
    """Counting sort by instrument, stable, groups numbered by first appearance.

    Fills groups (group of each row), ids and counts (by group), perm (row of each place in group order). Returns the
    number of groups.
    """
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
    place = np.empty(found, np.int64)
    total = 0
    for g in range(found):
        place[g] = total
        total += counts[g]
    for i in range(n):
        g = groups[i]
        perm[place[g]] = i
        place[g] += 1
    return found


@njit(cache=True, error_model="numpy", boundscheck=False)
def encode_mbo(
    rows: Any, ordinals: Any, cols: Any, ids: Any, counts: Any, perm: Any, base: Any, codes: Any, missing: Any
) -> Any:
    """Columns of `rows` (MBO_SIGNED) with their ordinals; the header values go to `base`.

    base: [ts_recv, order_id, price, price unit (0: raw prices), meta, channel count, number of codes (0: raw codes),
    groups, missing ordinals]. Returns the OR of each column's values (its width).
    """
    n = len(rows)
    found = group_rows(rows["instrument_id"], cols[GROUP], ids, counts, perm)
    widths = np.zeros(MBO_COLUMNS, np.int64)
    recv = rows[0]["ts_recv"]
    base[0] = recv
    base[7] = found
    last_seq = np.zeros(256, np.int64)
    gaps = 0
    ordinal = ordinals[0]
    w0 = np.int64(0)
    w1 = np.int64(0)
    w2 = np.int64(0)
    for i in range(n):
        r = rows[i]
        while ordinal < ordinals[i]:
            missing[gaps] = ordinal
            gaps += 1
            ordinal += 1
        ordinal += 1
        value = _zig(r["ts_recv"] - recv)
        recv = r["ts_recv"]
        cols[RECV, i] = value
        w1 |= value
        channel = r["channel_id"]
        seq = np.int64(r["sequence"])
        value = _zig(seq - last_seq[channel])
        last_seq[channel] = seq
        cols[SEQ, i] = value
        w2 |= value
        w0 |= cols[GROUP, i]
    base[8] = gaps
    widths[GROUP] = w0
    widths[RECV] = w1
    widths[SEQ] = w2

    order = rows[0]["order_id"]
    price = np.int64(0)
    for p in range(n):
        if rows[p]["price"] != UNDEF:
            price = rows[p]["price"]
            break
    base[1] = order
    base[2] = price
    unit: Any = np.int64(0)
    raw = False
    r = rows[0]
    meta = (np.int64(r["length"]) | np.int64(r["rtype"]) << 8 | np.int64(r["publisher_id"]) << 16
            | np.int64(r["channel_id"]) << 32)  # fmt: skip
    base[4] = meta
    table = np.full(1024, -1, np.int64)
    slot_of = np.empty(1024, np.int64)
    known = 0
    last_code = np.int64(-1)
    place = np.int64(0)
    w3 = np.int64(0)
    w4 = np.int64(0)
    w5 = np.int64(0)
    w7 = np.int64(0)
    w8 = np.int64(0)
    w9 = np.int64(0)
    for p in range(n):
        r = rows[perm[p]]
        value = _zig(r["ts_recv"] - r["ts_event"])
        cols[LATENCY, p] = value
        w3 |= value
        value = _zig(np.int64(r["ts_in_delta"]))
        cols[IN_DELTA, p] = value
        w4 |= value
        value = _zig(r["order_id"] - order)
        order = r["order_id"]
        cols[ORDER, p] = value
        w5 |= value
        px = r["price"]
        if px == UNDEF:
            cols[PRICE, p] = UNDEF
        else:
            d = px - price
            price = px
            cols[PRICE, p] = d
            if d == UNDEF or d == -UNDEF - 1:  # no code of its own left: made records only
                raw = True
            elif d != 0 and (unit == 0 or d % unit != 0):
                unit = _gcd(unit, abs(d))
        value = np.int64(r["size"])
        cols[SIZE, p] = value
        w7 |= value
        code = np.int64(r["action"]) << 16 | np.int64(r["side"]) << 8 | np.int64(r["flags"])
        if code != last_code and known <= 256:
            slot = (code * 40503 >> 4) & 1023
            while table[slot] != code:
                if table[slot] < 0:
                    table[slot] = code
                    slot_of[slot] = known
                    if known < 256:
                        codes[known] = code
                    known += 1
                    break
                slot = (slot + 1) & 1023
            place = slot_of[slot]
            last_code = code
        cols[CODE, p] = place
        w8 |= place
        value = (np.int64(r["length"]) | np.int64(r["rtype"]) << 8 | np.int64(r["publisher_id"]) << 16
                 | np.int64(r["channel_id"]) << 32)  # fmt: skip
        cols[META, p] = value ^ meta
        w9 |= value ^ meta
        meta = value
    widths[LATENCY] = w3
    widths[IN_DELTA] = w4
    widths[ORDER] = w5
    widths[SIZE] = w7
    widths[META] = w9

    if known > 256:  # more than a byte can name: made records only
        known = 0
        w8 = _ZERO
        for p in range(n):
            r = rows[perm[p]]
            code = np.int64(r["action"]) << 16 | np.int64(r["side"]) << 8 | np.int64(r["flags"])
            cols[CODE, p] = code
            w8 |= code
    base[6] = known
    widths[CODE] = w8

    w6 = np.int64(0)
    if raw:
        unit = 0
        for p in range(n):
            value = rows[perm[p]]["price"]
            cols[PRICE, p] = value
            w6 |= value
    else:
        unit = max(unit, 1)
        for p in range(n):
            d = cols[PRICE, p]
            value = _ZERO if d == UNDEF else _zig(d // unit if d else d) + 1
            cols[PRICE, p] = value
            w6 |= value
    base[3] = unit
    widths[PRICE] = w6
    return widths


@njit(cache=True, error_model="numpy", boundscheck=False)
def decode_mbo(
    cols: Any,
    ids: Any,
    counts: Any,
    base: Any,
    codes: Any,
    missing: Any,
    first: Any,
    only: Any,
    rows: Any,
    ordinals: Any,
) -> Any:
    """Rows (MBO_SIGNED) and ordinals back from columns: all in stream order, or those of instrument `only` (≥ 0).

    Returns the number of rows written.
    """
    n = cols.shape[1]
    found = len(ids)
    place = np.empty(found, np.int64)
    total = 0
    for g in range(found):
        place[g] = total
        total += counts[g]
    meta = base[4]
    order = base[1]
    price = base[2]
    unit = base[3]
    for p in range(n):  # undo the chains of the group order, in place
        meta ^= cols[META, p]
        cols[META, p] = meta
        order += _zag(cols[ORDER, p])
        cols[ORDER, p] = order
        value = cols[PRICE, p]
        if unit:
            if value == 0:
                cols[PRICE, p] = UNDEF
            else:
                price += _zag(value - 1) * unit
                cols[PRICE, p] = price
    recv = base[0]
    last_seq = np.zeros(256, np.int64)
    gap = 0
    ordinal = first
    out = 0
    for i in range(n):
        while gap < len(missing) and missing[gap] == ordinal:
            gap += 1
            ordinal += 1
        g = cols[GROUP, i]
        p = place[g]
        place[g] = p + 1
        recv += _zag(cols[RECV, i])
        meta = cols[META, p]
        channel = (meta >> 32) & 255
        seq = last_seq[channel] + _zag(cols[SEQ, i])
        last_seq[channel] = seq
        if only < 0 or ids[g] == only:
            r = rows[out]
            r["length"] = meta & 255
            r["rtype"] = (meta >> 8) & 255
            r["publisher_id"] = (meta >> 16) & 65535
            r["instrument_id"] = ids[g]
            r["ts_event"] = recv - _zag(cols[LATENCY, p])
            r["order_id"] = cols[ORDER, p]
            r["price"] = cols[PRICE, p]
            r["size"] = cols[SIZE, p]
            code = cols[CODE, p]
            if len(codes):
                code = codes[code]
            r["flags"] = code & 255
            r["channel_id"] = channel
            r["action"] = (code >> 16) & 255
            r["side"] = (code >> 8) & 255
            r["ts_recv"] = recv
            r["ts_in_delta"] = _zag(cols[IN_DELTA, p])
            r["sequence"] = seq
            ordinals[out] = ordinal
            out += 1
        ordinal += 1
    return out


@njit(cache=True, error_model="numpy", boundscheck=False)
def encode_bbo(rows: Any, cols: Any, ids: Any, counts: Any, perm: Any, base: Any) -> Any:
    """Columns of BBO rows (BBO_SIGNED). base: [ordinal, ts_recv, price unit (0: raw prices), groups]."""
    n = len(rows)
    found = group_rows(rows["instrument_id"], cols[B_GROUP], ids, counts, perm)
    widths = np.zeros(BBO_COLUMNS, np.int64)
    ordinal = rows[0]["ordinal"]
    recv = rows[0]["ts_recv"]
    base[0] = ordinal
    base[1] = recv
    base[3] = found
    for i in range(n):
        r = rows[i]
        value = _zig(r["ordinal"] - ordinal)
        ordinal = r["ordinal"]
        cols[B_ORDINAL, i] = value
        widths[B_ORDINAL] |= value
        value = _zig(r["ts_recv"] - recv)
        recv = r["ts_recv"]
        cols[B_RECV, i] = value
        widths[B_RECV] |= value
        widths[B_GROUP] |= cols[B_GROUP, i]
    unit: Any = np.int64(0)
    raw = False
    bid = np.int64(0)
    ask = np.int64(0)
    for p in range(n):
        r = rows[perm[p]]
        value = _zig(r["ts_recv"] - r["ts_event"])
        cols[B_LATENCY, p] = value
        widths[B_LATENCY] |= value
        value = np.int64(r["publisher_id"]) | np.int64(r["flags"]) << 16 | np.int64(r["reserved"]) << 24
        cols[B_META, p] = value
        widths[B_META] |= value
        px = r["bid_px"]
        d = UNDEF
        if px != UNDEF:
            d = px - bid
            bid = px
            raw |= d == UNDEF or d == -UNDEF - 1
            if d != 0 and (unit == 0 or d % unit != 0):
                unit = _gcd(unit, abs(d))
        cols[B_BID, p] = d
        px = r["ask_px"]
        d = UNDEF
        if px != UNDEF:
            d = px - ask
            ask = px
            raw |= d == UNDEF or d == -UNDEF - 1
            if d != 0 and (unit == 0 or d % unit != 0):
                unit = _gcd(unit, abs(d))
        cols[B_ASK, p] = d
        value = r["bid_sz"]
        cols[B_BID_SZ, p] = value
        widths[B_BID_SZ] |= value
        value = r["ask_sz"]
        cols[B_ASK_SZ, p] = value
        widths[B_ASK_SZ] |= value
        value = np.int64(r["bid_ct"])
        cols[B_BID_CT, p] = value
        widths[B_BID_CT] |= value
        value = np.int64(r["ask_ct"])
        cols[B_ASK_CT, p] = value
        widths[B_ASK_CT] |= value
    unit = _ZERO if raw else max(unit, 1)
    base[2] = unit
    for p in range(n):
        if raw:
            cols[B_BID, p] = rows[perm[p]]["bid_px"]
            cols[B_ASK, p] = rows[perm[p]]["ask_px"]
        else:
            d = cols[B_BID, p]
            cols[B_BID, p] = _ZERO if d == UNDEF else _zig(d // unit if d else d) + 1
            d = cols[B_ASK, p]
            cols[B_ASK, p] = _ZERO if d == UNDEF else _zig(d // unit if d else d) + 1
        widths[B_BID] |= cols[B_BID, p]
        widths[B_ASK] |= cols[B_ASK, p]
    return widths


@njit(cache=True, error_model="numpy", boundscheck=False)
def decode_bbo(cols: Any, ids: Any, counts: Any, base: Any, only: Any, rows: Any) -> Any:
    """BBO rows (BBO_SIGNED) back: all in stream order, or those of instrument `only` (≥ 0); returns how many."""
    n = cols.shape[1]
    place = np.empty(len(ids), np.int64)
    total = 0
    for g in range(len(ids)):
        place[g] = total
        total += counts[g]
    unit = base[2]
    if unit:
        bid = np.int64(0)
        ask = np.int64(0)
        for p in range(n):
            value = cols[B_BID, p]
            if value == 0:
                cols[B_BID, p] = UNDEF
            else:
                bid += _zag(value - 1) * unit
                cols[B_BID, p] = bid
            value = cols[B_ASK, p]
            if value == 0:
                cols[B_ASK, p] = UNDEF
            else:
                ask += _zag(value - 1) * unit
                cols[B_ASK, p] = ask
    ordinal = base[0]
    recv = base[1]
    out = 0
    for i in range(n):
        g = cols[B_GROUP, i]
        p = place[g]
        place[g] = p + 1
        ordinal += _zag(cols[B_ORDINAL, i])
        recv += _zag(cols[B_RECV, i])
        if only < 0 or ids[g] == only:
            r = rows[out]
            r["ordinal"] = ordinal
            r["ts_event"] = recv - _zag(cols[B_LATENCY, p])
            r["ts_recv"] = recv
            r["instrument_id"] = ids[g]
            meta = cols[B_META, p]
            r["publisher_id"] = meta & 65535
            r["flags"] = (meta >> 16) & 255
            r["reserved"] = (meta >> 24) & 255
            r["bid_px"] = cols[B_BID, p]
            r["ask_px"] = cols[B_ASK, p]
            r["bid_sz"] = cols[B_BID_SZ, p]
            r["ask_sz"] = cols[B_ASK_SZ, p]
            r["bid_ct"] = cols[B_BID_CT, p]
            r["ask_ct"] = cols[B_ASK_CT, p]
            out += 1
    return out


@njit(cache=True, error_model="numpy", boundscheck=False)
def split(column: Any, width: Any, planes: Any) -> Any:
    """The `width` low bytes of a column as planes (width, n): plane k holds byte k of every value."""
    n = len(column)
    for k in range(width):
        shift = 8 * k
        for i in range(n):
            planes[k, i] = (column[i] >> shift) & 255


@njit(cache=True, error_model="numpy", boundscheck=False)
def join(planes: Any, width: Any, column: Any) -> Any:
    """A column back from its byte planes; no plane: zeros."""
    n = len(column)
    if width == 0:
        column[:] = 0
        return
    for i in range(n):
        column[i] = planes[0, i]
    for k in range(1, width):
        shift = 8 * k
        for i in range(n):
            column[i] |= np.int64(planes[k, i]) << shift
