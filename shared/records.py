"""Array layouts: the DBN MBO record, and the rows the engine makes of it.

All little-endian, packed as DBN packs them; prices in 1e-9, times in ns since the epoch. A row array is what travels
on the wire and lies in stored blocks, byte for byte, so a change here is a change of the wire version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.units import UNDEF_TS

Rows = NDArray[np.void]  # a one-dimensional structured array of one of the layouts below

# DBN MboMsg, 56 bytes, the same in DBN v1, v2 and v3 (dbn: record.rs).
MBO: np.dtype[Any] = np.dtype(
    [
        ("length", "u1"),  # in 4-byte units: 14
        ("rtype", "u1"),  # 160
        ("publisher_id", "<u2"),
        ("instrument_id", "<u4"),
        ("ts_event", "<u8"),
        ("order_id", "<u8"),
        ("price", "<i8"),
        ("size", "<u4"),
        ("flags", "u1"),
        ("channel_id", "u1"),
        ("action", "u1"),
        ("side", "u1"),
        ("ts_recv", "<u8"),
        ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
    ]
)

# Best bid and offer of one book's raw state at an event end at which it changed. An empty side has price UNDEF_PX,
# size 0 and count 0. `ordinal` and both times are those of the record that ended the event.
BBO: np.dtype[Any] = np.dtype(
    [
        ("ordinal", "<u8"),
        ("ts_event", "<u8"),
        ("ts_recv", "<u8"),
        ("instrument_id", "<u4"),
        ("publisher_id", "<u2"),
        ("flags", "u1"),  # BOOK_* bits
        ("reserved", "u1"),
        ("bid_px", "<i8"),
        ("ask_px", "<i8"),
        ("bid_sz", "<u8"),  # sum over the level's orders: can pass u32
        ("ask_sz", "<u8"),
        ("bid_ct", "<u4"),
        ("ask_ct", "<u4"),
    ]
)

# One trade (action T). `end` is the ordinal of the record that ended its event: rows are in order of (end, ordinal).
TRADE: np.dtype[Any] = np.dtype(
    [
        ("ordinal", "<u8"),
        ("end", "<u8"),
        ("ts_event", "<u8"),
        ("ts_recv", "<u8"),
        ("price", "<i8"),
        ("size", "<u4"),
        ("instrument_id", "<u4"),
        ("sequence", "<u4"),
        ("publisher_id", "<u2"),
        ("side", "u1"),  # aggressor: B, A or N
        ("flags", "u1"),  # the record's DBN flags
    ]
)

# A level touched in a batch, absolute, as it stood at its book's last event end. size 0 and count 0: gone.
LEVEL: np.dtype[Any] = np.dtype(
    [
        ("instrument_id", "<u4"),
        ("publisher_id", "<u2"),
        ("side", "u1"),  # B or A
        ("reserved", "u1"),
        ("price", "<i8"),
        ("size", "<u8"),
        ("count", "<u4"),
        ("reserved2", "<u4"),
    ]
)

# The overlay of policy `uncross`: at every event end of a crossed book at which it changed, and once with
# present = 0 when the book is no longer crossed. bid_*/ask_*: the first level of each side that would remain.
AUCTION: np.dtype[Any] = np.dtype(
    [
        ("ordinal", "<u8"),
        ("ts_event", "<u8"),
        ("ts_recv", "<u8"),
        ("instrument_id", "<u4"),
        ("publisher_id", "<u2"),
        ("present", "u1"),
        ("reserved", "u1"),
        ("price", "<i8"),
        ("size", "<u8"),
        ("bid_px", "<i8"),
        ("ask_px", "<i8"),
        ("bid_sz", "<u8"),
        ("ask_sz", "<u8"),
        ("bid_ct", "<u4"),
        ("ask_ct", "<u4"),
    ]
)

# One row for each book that had an event end in the batch (or whose flags changed), at its last one.
TOUCHED: np.dtype[Any] = np.dtype(
    [
        ("ordinal", "<u8"),
        ("ts_event", "<u8"),
        ("ts_recv", "<u8"),
        ("instrument_id", "<u4"),
        ("publisher_id", "<u2"),
        ("flags", "u1"),  # BOOK_* bits
        ("reserved", "u1"),
    ]
)

# One bar of trades of one book, by ts_recv; stored and served by persist.
BAR: np.dtype[Any] = np.dtype(
    [
        ("ts", "<u8"),  # start of the interval
        ("open", "<i8"),
        ("high", "<i8"),
        ("low", "<i8"),
        ("close", "<i8"),
        ("volume", "<u8"),
        ("trades", "<u4"),
        ("instrument_id", "<u4"),
        ("publisher_id", "<u2"),
        ("interval_s", "<u2"),
        ("reserved", "<u4"),
    ]
)

# One resting order, as `Engine.order_rows` lists them.
ORDER: np.dtype[Any] = np.dtype(
    [
        ("order_id", "<u8"),
        ("ts_event", "<u8"),  # of the record that gave it its place in the queue
        ("price", "<i8"),
        ("size", "<u4"),
        ("side", "u1"),  # B or A
        ("aggregate", "u1"),  # 1: not an order but a level known only in sum (F_TOB, F_MBP)
        ("reserved", "<u2"),
    ]
)

BOOK_OPEN = 1  # records of an unfinished event are held back
BOOK_CROSSED = 2  # raw best bid > best ask
BOOK_LOCKED = 4  # raw best bid = best ask
BOOK_MAYBE_BAD = 8  # the venue's gap flag was seen since the last clear or snapshot
BOOK_SNAPSHOT = 16  # inside a snapshot: not to be published
BOOK_STALE = 32  # set by services, never by the engine: a gap lies before this state

# What one MBO record did to its book, in order of application: the `mbo` channel.
EFFECT: np.dtype[Any] = np.dtype(
    [
        ("ordinal", "<u8"),  # of the record
        ("end", "<u8"),  # of the record that ended its event
        ("row", "<u4"),  # index of the record in Batch.effect_records
        ("size_before", "<u4"),  # of its order; 0 if there was none
        ("size_after", "<u4"),
        ("effect", "u1"),  # EFFECT_*
        ("why", "u1"),  # with EFFECT_NONE or an anomaly: an anomaly code of shared.orderbook.engine, else 0
        ("reserved", "<u2"),
    ]
)
EFFECT_NONE = 0
EFFECT_ADDED = 1
EFFECT_REDUCED = 2
EFFECT_REMOVED = 3
EFFECT_MOVED = 4  # price changed, or priority lost
EFFECT_CLEARED = 5
EFFECT_REPLACED = 6  # an add of a live order id, or an F_TOB / F_MBP level set

for _layout, _bytes in (
    (MBO, 56),
    (BBO, 72),
    (TRADE, 56),
    (LEVEL, 32),
    (AUCTION, 88),
    (TOUCHED, 32),
    (BAR, 64),
    (EFFECT, 32),
):
    if _layout.itemsize != _bytes:  # pragma: no cover
        raise TypeError(f"layout of {_bytes} bytes has {_layout.itemsize}")


def signed(layout: np.dtype[Any]) -> np.dtype[Any]:
    """The same layout with every u64 as i64: kernels calculate in one integer type, which wraps."""
    assert layout.names is not None
    return np.dtype([(name, layout[name].str.replace("u8", "i8")) for name in layout.names])


MBO_SIGNED, BBO_SIGNED = signed(MBO), signed(BBO)


def joined(parts: Sequence[Rows]) -> Rows:
    """Contiguous rows of one layout behind each other, in a new array; at least one part.

    As bytes: numpy copies structured rows one by one, which is 37 ns an MBO record instead of 1.4.
    """
    return np.concatenate([part.view(np.uint8) for part in parts]).view(parts[0].dtype)


def recv_times(records: Rows) -> NDArray[np.uint64]:
    """ts_recv of MBO records in ns, undefined ones as 0: they move no running maximum and reach no end."""
    stamps: NDArray[np.uint64] = records["ts_recv"]
    undefined = stamps == np.uint64(UNDEF_TS)
    return np.where(undefined, np.uint64(0), stamps) if undefined.any() else stamps


def empty(layout: np.dtype[Any]) -> Rows:
    """A zero-length row array of `layout`."""
    return np.empty(0, layout)
