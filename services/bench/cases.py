"""What `mbo bench engine` plays: a file again and again, deep and wide books, records chosen to be slow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.dbn import Reader
from shared.errors import UsageError
from shared.records import MBO, Rows
from shared.units import ACTION_CLEAR, F_LAST, RTYPE_MBO, SIDE_NONE, UNDEF_PX

LIVE = 236_000  # orders of the deep book
MANY = 10_000  # instruments


@dataclass(frozen=True, slots=True)
class Data:
    """`warm` is applied before the clock starts."""

    name: str
    records: Rows
    warm: Rows | None = None


def file(path: str, passes: int) -> list[Data]:
    """The file again and again: once with an R before each pass, once without (its orders then are added again)."""
    with Reader(path) as reader:
        parts = [np.array(part.records) for part in reader.parts() if part.records is not None]
    if not parts:
        raise UsageError(f"--file {path}: holds no MBO records")
    records = np.concatenate(parts)
    books = np.unique(records[["publisher_id", "instrument_id"]])
    clear = np.zeros(len(books), MBO)
    for name in ("publisher_id", "instrument_id"):
        clear[name] = books[name]
    clear["length"], clear["rtype"] = MBO.itemsize // 4, RTYPE_MBO
    clear["action"], clear["side"], clear["flags"], clear["price"] = ACTION_CLEAR, SIDE_NONE, F_LAST, UNDEF_PX
    name = f"{Path(path).name} x{passes}"
    return [
        Data(name, np.tile(np.concatenate((clear, records)), passes)),
        Data(f"{name}, no R between", np.tile(records, passes)),
    ]


def _blank(n: int, instruments: int = 1) -> Rows:
    rows = np.zeros(n, MBO)
    rows["length"], rows["rtype"], rows["publisher_id"], rows["flags"] = 14, 160, 1, F_LAST
    rows["instrument_id"] = 1 if instruments == 1 else np.arange(n) % instruments + 1
    rows["ts_event"] = rows["ts_recv"] = 1_760_000_000_000_000_000 + np.arange(n) * 1000
    return rows


def _adds(n: int, rng: np.random.Generator, first_id: int, ticks: float, instruments: int = 1) -> Rows:
    """Orders at a random distance from the middle."""
    rows = _blank(n, instruments)
    ask = rng.random(n) < 0.5
    away = 1 + rng.exponential(ticks, n).astype(np.int64)
    rows["action"], rows["side"] = ord("A"), np.where(ask, ord("A"), ord("B"))
    rows["price"] = (100_000 + np.where(ask, away, -away)) * 10_000_000
    rows["size"] = rng.integers(1, 100, n)
    rows["order_id"] = first_id + np.arange(n)
    return rows


def _churn(
    n: int, live: int, rng: np.random.Generator, ticks: float, instruments: int = 1
) -> tuple[Rows, Rows]:
    """(adds of `live` orders, then cancel-and-add pairs whose victim is drawn uniformly from the living)."""
    adds = _adds(live + n // 2, rng, 1, ticks, instruments)
    warm, fresh = adds[:live], adds[live:]
    slots = rng.integers(0, live, n // 2)
    if instruments > 1:
        slots = slots // instruments * instruments + np.arange(n // 2) % instruments
        slots = np.where(slots >= live, slots - instruments, slots)
    resting = warm.copy()
    out = np.zeros(2 * len(fresh), MBO)
    fresh["instrument_id"] = warm["instrument_id"][slots]
    # Who is at a place when it is drawn: the one put there by the draw before it, or the first.
    order = np.lexsort((np.arange(len(slots)), slots))
    before = np.full(len(slots), -1)
    same = slots[order][1:] == slots[order][:-1]
    before[order[1:][same]] = order[:-1][same]
    victims = np.where(before[:, None] >= 0, fresh[before][:, None], resting[slots][:, None])[:, 0]
    victims["action"] = ord("C")
    out[0::2], out[1::2] = victims, fresh
    return warm, out


def deep(share: int) -> Data:
    warm, records = _churn(2_000_000 // share, LIVE // share, np.random.default_rng(1), 300.0)
    return Data(f"deep: {len(warm):,} live orders", records, warm)


def one_of_many(share: int) -> Data:
    warm, records = _churn(1_000_000 // share, 30, np.random.default_rng(2), 10.0)
    return Data("one instrument, 30 orders", records, warm)


def many(share: int) -> Data:
    count = MANY // share
    warm, records = _churn(1_000_000 // share, 30 * count, np.random.default_rng(3), 10.0, count)
    return Data(f"{count:,} instruments, 30 orders each", records, warm)


def worst(share: int) -> Iterator[tuple[str, Rows, Rows | None]]:
    """Records chosen to be slow; their ns are the mean of many of the kind, the rest of a call included."""
    n = 20_000 // share
    levels = 100_000 // share
    rng = np.random.default_rng(4)
    warm = _blank(2 * levels)
    warm["action"], warm["size"] = ord("A"), 1
    warm["order_id"] = np.arange(1, 2 * levels + 1)
    warm["side"] = np.where(np.arange(2 * levels) < levels, ord("B"), ord("A"))
    step = np.arange(levels) * 2
    warm["price"] = np.concatenate((1_000_000 - step, 1_000_002 + step))
    new = _blank(2 * n)  # a new level far from the top, then gone again
    new["action"] = np.where(np.arange(2 * n) % 2 == 0, ord("A"), ord("C"))
    new["side"], new["size"] = ord("B"), 1
    new["order_id"] = 10**9 + np.arange(2 * n) // 2
    new["price"] = np.repeat(1_000_001 - 2 * rng.integers(levels // 2, levels, n), 2)
    yield f"worst: {levels:,} levels, far ones", new, warm
    low = new.copy()
    low["price"] = 1_000_001 - 2 * levels
    yield f"worst: {levels:,} levels, the farthest", low, warm
    orders = 1_000_000 // share
    queue = _blank(orders)
    queue["action"], queue["side"], queue["size"], queue["price"] = ord("A"), ord("B"), 1, 1_000_000
    queue["order_id"] = np.arange(1, orders + 1)
    middle = queue[rng.permutation(orders)[:n]].copy()
    middle["action"] = ord("C")
    yield f"worst: {orders:,} orders on a level", middle, queue
    # Ids that agree in the top bits after multiplication with 2^64 / the golden ratio, the usual hash.
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    clash = _blank(orders // 10)
    clash["action"], clash["side"], clash["size"], clash["price"] = ord("A"), ord("B"), 1, 1_000_000
    clash["order_id"] = np.arange(1, len(clash) + 1, dtype=np.uint64) * np.uint64(inverse)
    yield "worst: ids that collide in 2^64/phi", clash, None
