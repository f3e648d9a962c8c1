"""Everything that changes in a simulation, as arrays: one NamedTuple that the kernels take."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.ingest.simulator.market import FIRST_INSTRUMENT_ID, MarketSpec, instruments, style_of

NO_ORDER = -1
PHASE_CLOSED, PHASE_PREOPEN, PHASE_TRADING, PHASE_HALT = 0, 1, 2, 3
BID, ASK = 0, 1

ORDER: np.dtype[Any] = np.dtype(
    [
        ("id", "u8"),
        ("ts", "u8"),  # ns, of the message that gave it its place in the queue
        ("seq", "u4"),
        ("px", "i4"),  # tick index in its book's window
        ("size", "i4"),  # displayed
        ("peak", "i4"),  # displayed size of an iceberg after a refill; 0: no iceberg
        ("hidden", "i4"),
        ("next", "i4"),
        ("prev", "i4"),
        ("slot", "i4"),  # place in `live`
        ("side", "u1"),
        ("gtc", "u1"),  # survives the close
    ]
)
LEVEL: np.dtype[Any] = np.dtype(
    [("size", "i8"), ("count", "i4"), ("head", "i4"), ("tail", "i4"), ("pad", "i4")]
)
BOOK: np.dtype[Any] = np.dtype(
    [
        ("base_px", "i8"),  # price of tick index 0, 1e-9
        ("tick_px", "i8"),
        ("burst_until", "u8"),  # ns
        ("mean_ns", "f8"),  # between two events
        ("active", "f8"),  # slow modulation of its activity
        ("records", "i8"),
        ("instrument", "u4"),
        ("publisher", "u2"),
        ("style", "u1"),
        ("phase", "u1"),
        ("hot", "u1"),  # in a flurry of events
        ("bid", "i4"),  # best tick, -1 if none
        ("ask", "i4"),  # best tick, the window's width if none
        ("live", "i4"),
        ("bids", "i4"),  # live orders of the bid side
        ("target", "i4"),
        ("last", "i4"),  # tick of the last trade, -1 if none
        ("value", "i4"),  # index of its instrument in `values`
    ]
)
GLOBAL: np.dtype[Any] = np.dtype(
    [("rng", "u8"), ("now", "u8"), ("recv", "u8"), ("delay", "f8"), ("free", "i8"), ("pending", "i8")]
)
VENUE: np.dtype[Any] = np.dtype([("next_id", "u8"), ("seq", "u4"), ("channel", "u4")])
PENDING: np.dtype[Any] = np.dtype(
    [("id", "u8"), ("px", "i8"), ("size", "i4"), ("action", "u1"), ("side", "u1"), ("order", "i4")]
)


class State(NamedTuple):
    g: NDArray[np.void]  # one row of GLOBAL
    orders: NDArray[np.void]
    free: NDArray[np.int32]  # stack of unused orders, `g.free` on it
    levels: NDArray[np.void]  # [book, side, tick]
    books: NDArray[np.void]
    live: NDArray[np.int32]  # [book, slot]: its resting orders, oldest first as far as removals allow
    venues: NDArray[np.void]  # by publisher id
    values: NDArray[np.float64]  # what an instrument is worth, in ticks of its window
    heap_ts: NDArray[np.uint64]  # next event of each book
    heap_book: NDArray[np.int32]
    pending: NDArray[np.void]  # book changes of the event at work, sent after its fills


def window_ticks(books: int) -> int:
    """Width of the price window: 100 MB of levels at most."""
    return 2048 if books <= 1000 else 512


def orders_cap(spec: MarketSpec) -> int:
    """Most resting orders in one book."""
    return spec.orders * 3


def make_state(spec: MarketSpec) -> State:
    """The state before the first message."""
    traded = instruments(spec.instruments)
    pairs = [(index, publisher) for index, one in enumerate(traded) for publisher in one.venues]
    count, width, cap = len(pairs), window_ticks(len(pairs)), orders_cap(spec)
    share = np.array([traded[index].activity / len(traded[index].venues) for index, _ in pairs])
    share /= share.sum()
    books = np.zeros(count, BOOK)
    for row, (index, publisher), part in zip(books, pairs, share, strict=True):
        one = traded[index]
        row["tick_px"], row["base_px"] = one.tick_px, one.open_px - (width // 2) * one.tick_px
        if row["base_px"] < one.tick_px:
            row["base_px"] = one.tick_px
        row["instrument"] = FIRST_INSTRUMENT_ID + index
        row["publisher"], row["style"] = publisher, style_of(publisher)
        row["mean_ns"] = 1.21e9 / (spec.rate * part)  # 1.21 messages an event, as in CLX5
        row["active"], row["bid"], row["last"], row["ask"] = 1.0, -1, -1, width
        row["target"], row["value"] = spec.orders, index
    levels = np.zeros((count, 2, width), LEVEL)
    levels["head"] = levels["tail"] = NO_ORDER
    venues = np.zeros(16, VENUE)
    venues["next_id"], venues["seq"], venues["channel"] = 1, 1, np.arange(16)
    venues["next_id"][1] = 8_058_566_000_000  # order ids at CME are this long
    g = np.zeros(1, GLOBAL)
    g["rng"] = np.uint64(spec.seed * 0x9E3779B97F4A7C15 % 2**64)
    g["now"] = g["recv"] = spec.start
    g["free"] = count * cap
    return State(
        g,
        np.zeros(count * cap, ORDER),
        np.arange(count * cap - 1, -1, -1, dtype=np.int32),
        levels,
        books,
        np.full((count, cap), NO_ORDER, np.int32),
        venues,
        np.full(len(traded), width / 2, np.float64),
        np.full(count, spec.start, np.uint64),
        np.arange(count, dtype=np.int32),
        np.zeros(8 * cap + 64, PENDING),
    )
