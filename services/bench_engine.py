"""`mbo bench engine`: records a second through the order-book engine, next to others in the same run.

Every engine makes a BBO row at each event end at which it changed; `bbo_hash` is over those rows (bid price, size,
count, ask price, size, count as i64, in order), so that results can be compared with other programs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services import bench_rivals
from shared.dbn import Reader
from shared.errors import UsageError
from shared.orderbook.engine import Outputs, make_engine
from shared.records import BBO, MBO, Rows
from shared.units import ACTION_CLEAR, F_LAST, RTYPE_MBO, SIDE_NONE, UNDEF_PX

PASSES = 50  # of the file, each behind an R
BATCH = 10_000  # records
LIVE = 236_000  # orders of the deep book
MANY = 10_000  # instruments
FIGURES = ("bid_px", "bid_sz", "bid_ct", "ask_px", "ask_sz", "ask_ct")


@dataclass(frozen=True, slots=True)
class Result:
    engine: str
    data: str
    outputs: str
    records: int
    seconds: float  # of CPU, in the one thread there is: the median of the repetitions
    records_per_s: float
    bbo_hash: str
    spread: float  # (slowest − fastest) / median


@dataclass(frozen=True, slots=True)
class Data:
    """`warm` is applied before the clock starts."""

    name: str
    records: Rows
    warm: Rows | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", help="a DBN file of MBO records, played 50 times")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    parser.add_argument("--batch", type=int, default=BATCH, metavar="N", help=f"records a call ({BATCH})")
    parser.add_argument(
        "--repeat", type=int, default=5, metavar="N", help="repetitions; the median counts (5)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the data: to see that it works")


def run(args: argparse.Namespace) -> int:
    if args.batch < 1 or args.repeat < 1:
        raise UsageError("--batch and --repeat must be 1 or more")
    results = []
    for result in _results(args):
        results.append(result)
        if not args.json:
            print(_row(result), flush=True)
    if args.json:
        print(json.dumps([asdict(result) for result in results]))
    return 0


def _results(args: argparse.Namespace) -> Iterator[Result]:
    share = 10 if args.quick else 1
    every = [made(share) for made in (_deep, _one_of_many, _many)]
    if args.file:
        every = [*_file(args.file, PASSES // share), *every]
    for data in every:
        for outputs in ("bbo", "all"):
            yield _kernel(data, outputs, args.batch, args.repeat)
        for name, rival in bench_rivals.available().items():
            if rival.fast:
                yield _rival(name, rival, data, args.repeat)
        yield from _others(data, args.batch)
    for name, records, warm in _worst(share):
        yield _kernel(Data(name, records, warm), "all", args.batch, args.repeat)


def _row(result: Result) -> str:
    return (
        f"{result.data:<34} {result.engine:<10} {result.outputs:<4} {result.records:>10,} records "
        f"{result.records_per_s / 1e6:7.2f} M/s  {result.seconds / result.records * 1e9:8.0f} ns "
        f"±{result.spread:4.0%}  {result.bbo_hash[:12]}"
    )


# --- data ------------------------------------------------------------------------------------------------------------


def _file(path: str, passes: int) -> list[Data]:
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


def _deep(share: int) -> Data:
    warm, records = _churn(2_000_000 // share, LIVE // share, np.random.default_rng(1), 300.0)
    return Data(f"deep: {len(warm):,} live orders", records, warm)


def _one_of_many(share: int) -> Data:
    warm, records = _churn(1_000_000 // share, 30, np.random.default_rng(2), 10.0)
    return Data("one instrument, 30 orders", records, warm)


def _many(share: int) -> Data:
    count = MANY // share
    warm, records = _churn(1_000_000 // share, 30 * count, np.random.default_rng(3), 10.0, count)
    return Data(f"{count:,} instruments, 30 orders each", records, warm)


def _worst(share: int) -> Iterator[tuple[str, Rows, Rows | None]]:
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


# --- engines ---------------------------------------------------------------------------------------------------------


def _measured(
    engine: str, data: Data, outputs: str, repeat: int, play: Callable[[Data], tuple[float, list[Rows]]]
) -> Result:
    seconds, digest = [], ""
    for _ in range(repeat):
        took, rows = play(data)
        seconds.append(took)
        found = _hash(rows)
        if digest and found != digest:
            raise UsageError(f"{engine} gives two different results on {data.name}")
        digest = found
    middle = statistics.median(seconds)
    n = len(data.records)
    return Result(
        engine, data.name, outputs, n, middle, n / middle, digest, (max(seconds) - min(seconds)) / middle
    )


def _hash(rows: list[Rows]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in rows:
        digest.update(np.stack([part[name].astype(np.int64) for name in FIGURES], axis=1).tobytes())
    return digest.hexdigest()


def _play(kind: str, outputs: Outputs, batch: int) -> Callable[[Data], tuple[float, list[Rows]]]:
    def play(data: Data) -> tuple[float, list[Rows]]:
        engine = make_engine("raw", kind, outputs=outputs)
        first = 0
        if data.warm is not None:
            engine.apply(data.warm, 0)
            first = len(data.warm)
        began = time.process_time()
        out = [
            engine.apply(data.records[at : at + batch], first + at).bbo
            for at in range(0, len(data.records), batch)
        ]
        return time.process_time() - began, out

    return play


def _kernel(data: Data, outputs: Outputs, batch: int, repeat: int) -> Result:
    return _measured("numba", data, outputs, repeat, _play("numba", outputs, batch))


def _others(data: Data, batch: int) -> Iterator[Result]:
    """The plain reference, Databento's documented Python example, and nautilus_trader if it is there: fewer records."""
    part = Data(data.name + " (part)", data.records[:50_000], data.warm)
    yield _measured("reference", part, "bbo", 1, _play("reference", "bbo", batch))
    instruments = len(np.unique(part.records["instrument_id"]))
    yield _measured("numba", part, "bbo", 3, _play("numba", "bbo", batch))
    for name, rival in bench_rivals.available().items():
        if not rival.fast and (rival.many or instruments == 1):
            yield _rival(name, rival, part, 1)


def _rival(name: str, rival: bench_rivals.Rival, data: Data, repeat: int) -> Result:
    def play(data: Data) -> tuple[float, list[Rows]]:
        prepared = rival.prepare(data.warm, data.records)
        began = time.process_time()
        figures = prepared()
        took = time.process_time() - began
        return took, [_as_rows(figures)]

    return _measured(name, data, "bbo", repeat, play)


def _as_rows(figures: list[tuple[int, ...]] | NDArray[np.int64]) -> Rows:
    rows = np.zeros(len(figures), BBO)
    for name, column in zip(FIGURES, np.asarray(figures, np.int64).reshape(-1, len(FIGURES)).T, strict=True):
        rows[name] = column
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
