"""Columns of BBO rows and back; as shared/blocks/mbo.py does it for records."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shared.blocks.mbo import FAR, UNDEF, code_prices, gcd, group_rows, zag, zig

COLUMNS = 11
STREAM = 3
GROUP, ORDINAL, RECV, LATENCY, META, BID, ASK, BID_SZ, ASK_SZ, BID_CT, ASK_CT = range(COLUMNS)
STARTS = 1


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def encode(rows: Any, cols: Any, ids: Any, counts: Any, starts: Any, base: Any) -> Any:
    """Columns of BBO rows (BBO_SIGNED). Returns the number of groups.

    Bid and ask are a chain each by group, both from the group's start: its first price that is defined.
    base: [ts_recv, price unit (0: prices as they are), ordinal, 0, least and greatest ts_recv (UNDEF, 0)].
    """
    n = len(rows)
    found = group_rows(rows["instrument_id"], cols[GROUP], ids, counts)
    place = np.empty(found, np.int64)
    bid_of = np.zeros(found, np.int64)
    ask_of = np.zeros(found, np.int64)
    total = 0
    for g in range(found):
        place[g] = total
        total += counts[g]
        starts[0, g] = UNDEF
    ordinal = np.int64(rows[0]["ordinal"])
    recv = np.int64(rows[0]["ts_recv"])
    recv_min = UNDEF
    recv_max = np.int64(0)
    base[0] = recv
    base[2] = ordinal
    unit = np.int64(0)
    near = True
    for i in range(n):
        r = rows[i]
        g = cols[GROUP, i]
        p = place[g]
        place[g] = p + 1
        cols[ORDINAL, i] = zig(r["ordinal"] - ordinal)
        ordinal = r["ordinal"]
        now = r["ts_recv"]
        cols[RECV, i] = zig(now - recv)
        recv = now
        if now >= 0:
            recv_min = min(recv_min, now)
            recv_max = max(recv_max, now)
        cols[LATENCY, p] = zig(now - r["ts_event"])
        cols[META, p] = (
            np.int64(r["publisher_id"]) | np.int64(r["flags"]) << 16 | np.int64(r["reserved"]) << 24
        )
        bid = r["bid_px"]
        ask = r["ask_px"]
        if starts[0, g] == UNDEF:
            first = bid if bid != UNDEF else ask
            if first != UNDEF:
                starts[0, g] = bid_of[g] = ask_of[g] = first
        d = UNDEF
        if bid != UNDEF:
            near &= -FAR < bid < FAR
            d = bid - bid_of[g]
            bid_of[g] = bid
            if d != 0 and near and (unit == 0 or d % unit != 0):
                unit = gcd(unit, abs(d))
        cols[BID, p] = d
        d = UNDEF
        if ask != UNDEF:
            near &= -FAR < ask < FAR
            d = ask - ask_of[g]
            ask_of[g] = ask
            if d != 0 and near and (unit == 0 or d % unit != 0):
                unit = gcd(unit, abs(d))
        cols[ASK, p] = d
        cols[BID_SZ, p] = r["bid_sz"]
        cols[ASK_SZ, p] = r["ask_sz"]
        cols[BID_CT, p] = np.int64(r["bid_ct"])
        cols[ASK_CT, p] = np.int64(r["ask_ct"])
    if near:
        unit = max(unit, np.int64(1))
        code_prices(cols[BID], unit)
        code_prices(cols[ASK], unit)
    else:  # made rows only
        unit = np.int64(0)
        total = 0
        for g in range(found):
            starts[0, g] = 0
            place[g] = total
            total += counts[g]
        for i in range(n):
            g = cols[GROUP, i]
            cols[BID, place[g]] = rows[i]["bid_px"]
            cols[ASK, place[g]] = rows[i]["ask_px"]
            place[g] += 1
    base[1] = unit
    base[3] = 0
    base[4] = recv_min
    base[5] = recv_max
    return found


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def decode(
    cols: Any, ids: Any, counts: Any, starts: Any, recv: Any, unit: Any, ordinal: Any, only: Any, rows: Any
) -> Any:
    """BBO rows (BBO_SIGNED) back: all in stream order, or those of group `only` (≥ 0); how many, -1 if the columns
    contradict each other."""
    n = cols.shape[1]
    found = len(ids)
    place = np.empty(found, np.int64)
    end = np.empty(found, np.int64)
    total = 0
    for g in range(found):
        place[g] = total
        total += counts[g]
        end[g] = total
    bid_of = starts[0].copy()
    ask_of = starts[0].copy()
    out = 0
    for i in range(n):
        g = cols[GROUP, i]
        if g < 0 or g >= found or place[g] >= end[g]:
            return -1
        p = place[g]
        place[g] = p + 1
        ordinal += zag(cols[ORDINAL, i])
        recv += zag(cols[RECV, i])
        if only < 0 or g == only:
            if out >= len(rows):
                return -1
            bid = cols[BID, p]
            ask = cols[ASK, p]
            if unit:
                if bid == 0:
                    bid = UNDEF
                else:
                    bid = bid_of[g] + zag(bid - 1) * unit
                    bid_of[g] = bid
                if ask == 0:
                    ask = UNDEF
                else:
                    ask = ask_of[g] + zag(ask - 1) * unit
                    ask_of[g] = ask
            meta = cols[META, p]
            r = rows[out]
            r["ordinal"] = ordinal
            r["ts_event"] = recv - zag(cols[LATENCY, p])
            r["ts_recv"] = recv
            r["instrument_id"] = ids[g]
            r["publisher_id"] = meta & 65535
            r["flags"] = (meta >> 16) & 255
            r["reserved"] = (meta >> 24) & 255
            r["bid_px"] = bid
            r["ask_px"] = ask
            r["bid_sz"] = cols[BID_SZ, p]
            r["ask_sz"] = cols[ASK_SZ, p]
            r["bid_ct"] = cols[BID_CT, p]
            r["ask_ct"] = cols[ASK_CT, p]
            out += 1
    return out
