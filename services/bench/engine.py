"""`mbo bench engine`: records a second through the order-book engine, next to others in the same run.

Every engine makes a BBO row at each event end at which it changed; `bbo_hash` is over those rows (bid price, size,
count, ask price, size, count as i64, in order), so that results can be compared with other programs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from services.bench import cases, rivals
from services.bench.cases import Data
from shared.errors import UsageError
from shared.orderbook.engine import Outputs
from shared.orderbook.engines import make_engine
from shared.records import BBO, Rows

PASSES = 50  # of the file, each behind an R
BATCH = 10_000  # records
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
    every = [made(share) for made in (cases.deep, cases.one_of_many, cases.many)]
    if args.file:
        every = [*cases.file(args.file, PASSES // share), *every]
    for data in every:
        for outputs in ("bbo", "all"):
            yield _kernel(data, outputs, args.batch, args.repeat)
        for name, rival in rivals.available().items():
            if rival.fast:
                yield _rival(name, rival, data, args.repeat)
        yield from _others(data, args.batch)
    for name, records, warm in cases.worst(share):
        yield _kernel(Data(name, records, warm), "all", args.batch, args.repeat)


def _row(result: Result) -> str:
    return (
        f"{result.data:<34} {result.engine:<10} {result.outputs:<4} {result.records:>10,} records "
        f"{result.records_per_s / 1e6:7.2f} M/s  {result.seconds / result.records * 1e9:8.0f} ns "
        f"±{result.spread:4.0%}  {result.bbo_hash[:12]}"
    )


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
    """Twice: for the time, with every batch dropped as a service drops it, and for the rows.

    Keeping the rows puts the first touch of their memory into the time: 8 ns a record where the BBO changes often.
    """

    def once(data: Data, keep: Callable[[Rows], object]) -> float:
        engine = make_engine("raw", kind, outputs=outputs)
        first = 0
        if data.warm is not None:
            engine.apply(data.warm, 0)
            first = len(data.warm)
        began = time.process_time()
        for at in range(0, len(data.records), batch):
            keep(engine.apply(data.records[at : at + batch], first + at).bbo)
        return time.process_time() - began

    def play(data: Data) -> tuple[float, list[Rows]]:
        rows: list[Rows] = []
        seconds = once(data, len)
        once(data, rows.append)
        return seconds, rows

    return play


def _kernel(data: Data, outputs: Outputs, batch: int, repeat: int) -> Result:
    return _measured("numba", data, outputs, repeat, _play("numba", outputs, batch))


def _others(data: Data, batch: int) -> Iterator[Result]:
    """The plain reference, Databento's documented Python example, and nautilus_trader if it is there: fewer records."""
    part = Data(data.name + " (part)", data.records[:50_000], data.warm)
    yield _measured("reference", part, "bbo", 1, _play("reference", "bbo", batch))
    instruments = len(np.unique(part.records["instrument_id"]))
    yield _measured("numba", part, "bbo", 3, _play("numba", "bbo", batch))
    for name, rival in rivals.available().items():
        if not rival.fast and (rival.many or instruments == 1):
            yield _rival(name, rival, part, 1)


def _rival(name: str, rival: rivals.Rival, data: Data, repeat: int) -> Result:
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
