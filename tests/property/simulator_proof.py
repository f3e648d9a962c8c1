"""The simulator's truth = the kernel = the reference: `python -m tests.property.simulator_proof --part 1/4`.

One simulated market is generated, never stored. Three things are held against each other, at every checkpoint and at
the end: the matching engine's own queues (every order of every book, in queue order), the kernel on all records, and on
one part of the instruments, for the whole length, the kernel and the reference engine (equal outputs of every batch,
equal state hash). Whatever part is run, every auction of the market must have the price and size that the kernel's
overlay showed before it. The reference takes 18 us a record: all parts together cover every record.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from services.ingest.simulator.state import ASK, BID
from shared.orderbook.engine import Batch, Engine
from shared.orderbook.engines import make_engine
from shared.records import Rows
from shared.units import ACTION_TRADE, SIDE_ASK, SIDE_BID, SIDE_NONE

Key = tuple[int, int]  # publisher_id, instrument_id
STAGES = ("simulator", "kernel", "reference", "compare")


class Unequal(Exception):
    """Two of the three disagree; says which, where and in what."""


@dataclass
class Report:
    records: int = 0
    in_part: int = 0  # records that the reference took too
    books: int = 0
    orders: int = 0  # resting at the end
    checkpoints: int = 0
    auctions: int = 0
    trades: int = 0
    state_hash: str = ""  # of the part, of both engines
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))


def spec_of(records: int, instruments: int, seed: int) -> MarketSpec:
    """As `mbo simulate` makes it: two trading days."""
    rate = 375.0 * instruments
    day_s = max(records / rate / 2, 0.5)
    return MarketSpec(
        seed=seed, instruments=instruments, messages=records, rate=rate, day_s=day_s, preopen_s=day_s / 20,
        overnight=True,
    )  # fmt: skip


class Auctions:
    """What the overlay says an auction now would trade, by book, against what the simulator's auctions trade."""

    def __init__(self) -> None:
        self._shown: dict[Key, tuple[int, int]] = {}
        self.held = 0

    def check(self, records: Rows, first: int, batch: Batch) -> None:
        """`records` have ordinals from `first`; `batch` is what the kernel made of them."""
        auction = np.flatnonzero((records["action"] == ACTION_TRADE) & (records["side"] == SIDE_NONE))
        rows = batch.auctions
        for index in auction.tolist():
            row = records[index]
            key = int(row["publisher_id"]), int(row["instrument_id"])
            before = rows[
                (rows["ordinal"] < first + index)
                & (rows["publisher_id"] == key[0])
                & (rows["instrument_id"] == key[1])
            ]
            last = before[-1] if len(before) else None
            shown = self._shown.get(key) if last is None else (int(last["price"]), int(last["size"]))
            if shown != (int(row["price"]), int(row["size"])):
                raise Unequal(f"auction at record {first + index} of {key}: {row}, the overlay said {shown}")
            self.held += 1
        newest = rows[::-1]
        _, at = np.unique(newest[["publisher_id", "instrument_id"]], return_index=True)
        for row in newest[at]:
            self._shown[int(row["publisher_id"]), int(row["instrument_id"])] = (
                int(row["price"]),
                int(row["size"]),
            )


def compare_queues(simulation: Simulation, engine: Engine, where: str, only: set[int] | None = None) -> int:
    """Every queue of the simulation's books (of the instruments `only`) is the engine's; the orders compared."""
    count = 0
    for b, book in enumerate(simulation._state.books):
        key = int(book["publisher"]), int(book["instrument"])
        if not book["records"] or (only is not None and key[1] not in only):
            continue
        for side, char in ((BID, SIDE_BID), (ASK, SIDE_ASK)):
            truth = list(simulation.orders(b, side))
            if truth != [order[:3] for order in engine.orders(*key, char)]:
                raise Unequal(f"{where}: queues of {key} differ, side {chr(char)}")
            count += len(truth)
        if engine.records(*key) != int(book["records"]):
            raise Unequal(f"{where}: {key} has {engine.records(*key)} records, not {book['records']}")
    return count


def chunks(simulation: Simulation) -> Iterator[Rows]:
    return (item for item in simulation.items() if not isinstance(item, dict))


def prove(
    spec: MarketSpec, part: int, parts: int, *, reference: bool = True, checkpoints: int = 10
) -> Report:
    """Raises Unequal at the first difference. Memory does not grow with `spec.messages`."""
    assert spec.messages is not None
    simulation, report, auctions = Simulation(spec), Report(), Auctions()
    mine = {one.instrument_id for index, one in enumerate(simulation.instruments) if index % parts == part}
    is_mine = np.zeros(max(one.instrument_id for one in simulation.instruments) + 1, bool)
    is_mine[list(mine)] = True
    whole = make_engine("uncross", "numba")
    pair = (make_engine("uncross", "numba"), make_engine("uncross", "reference")) if reference else ()
    due = spec.messages // checkpoints
    clock = time.perf_counter()

    def took(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        report.seconds[stage] += now - clock
        clock = now

    def look(where: str) -> None:
        report.orders = compare_queues(simulation, whole, where)
        if pair:
            compare_queues(simulation, pair[1], f"{where}, reference", mine)
            hashes = [engine.state_hash() for engine in pair]
            if hashes[0] != hashes[1]:
                raise Unequal(f"{where}: kernel and reference have different states")
            report.state_hash = hashes[0]
        if whole.anomalies():
            raise Unequal(f"{where}: anomalies {whole.anomalies()}")
        report.checkpoints += 1
        took("compare")

    for records in chunks(simulation):
        took("simulator")
        batch = whole.apply(records, report.records + 1)
        took("kernel")
        auctions.check(records, report.records + 1, batch)
        report.trades += len(batch.trades)
        report.records += len(records)
        took("compare")
        if pair:
            share = records[is_mine[records["instrument_id"]]]
            made = []
            for engine, stage in zip(pair, ("kernel", "reference"), strict=True):
                made.append(engine.apply(share, report.in_part + 1))
                took(stage)
            for name in ("bbo", "trades", "levels", "auctions", "touched"):
                if getattr(made[0], name).tobytes() != getattr(made[1], name).tobytes():
                    raise Unequal(f"{name} rows differ in the batch that ends at record {report.records}")
            report.in_part += len(share)
            took("compare")
        if report.records >= due:
            look(f"after {report.records:,} records")
            due += spec.messages // checkpoints
    for engine in (whole, *pair):
        engine.end()
    look("at the end")
    report.books, report.auctions = len(whole.books()), auctions.held
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=100_000_000)
    parser.add_argument("--instruments", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--part", default="1/1", help="i/n: which instruments the reference takes (i of n parts)"
    )
    parser.add_argument("--no-reference", action="store_true", help="truth against kernel only")
    args = parser.parse_args()
    part, parts = map(int, args.part.split("/"))
    spec = spec_of(args.records, args.instruments, args.seed)
    report = prove(spec, part - 1, parts, reference=not args.no_reference)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"seed {args.seed}: {report.records:,} records, {report.books} books of {args.instruments} instruments: "
        f"truth = kernel at {report.checkpoints} points ({report.orders:,} orders in their queues at the end), "
        f"{report.trades:,} trades, {report.auctions} auctions = overlay\n"
        + (
            ""
            if args.no_reference
            else f"part {args.part}: {report.in_part:,} records, outputs of every batch and state hash "
            f"{report.state_hash} equal, reference = truth\n"
        )
        + ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in report.seconds.items())
        + f"; peak memory {peak_mb:.0f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
