"""`mbo simulate`: a DBN file from the market simulator, with the true books beside it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from services.ingest.simulator.market import DATASET, DEFAULT_START_NS, NS, Instrument, MarketSpec
from services.ingest.simulator.market import instruments as traded
from services.ingest.simulator.simulation import Simulation
from services.ingest.sources.annotate import DAY_NS
from shared.dbn import Interval, Metadata, SymbolMapping, Writer
from shared.dbn.metadata import ns_to_date
from shared.errors import SourceError, UsageError
from shared.times import Instant

MAX_INSTRUMENTS = 20_000
_BAR = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT.dbn[.zst]", help="file to write; .zst compresses")
    parser.add_argument("--instruments", type=int, default=8, metavar="N", help="instruments (default 8)")
    parser.add_argument(
        "--messages", type=int, default=1_000_000, metavar="M", help="records, exactly (1000000)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="K", help="equal seeds give equal files (1)")
    parser.add_argument(
        "--truth", metavar="T.jsonl", help="also write the true final books, as `mbo rebuild`"
    )
    parser.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help="messages a second of market time (default: 375 an instrument)",
    )
    parser.add_argument("--days", type=int, default=2, metavar="D", help="trading days in the file (2)")
    parser.add_argument(
        "--start", type=Instant, default=DEFAULT_START_NS, metavar="T", help="first moment: ns or RFC 3339"
    )


def _spec(args: argparse.Namespace) -> MarketSpec:
    if not 1 <= args.instruments <= MAX_INSTRUMENTS:
        raise UsageError(f"--instruments {args.instruments}: give 1 to {MAX_INSTRUMENTS}")
    if args.messages < 1 or args.days < 1 or args.seed < 0 or (args.rate is not None and args.rate <= 0):
        raise UsageError("--messages, --days and --rate must be above 0, --seed not below")
    if not 0 < args.start < 2**62:
        raise UsageError("--start is after 1970")
    rate = args.rate or 375.0 * args.instruments
    day_s = min(max(args.messages / rate / args.days, 0.5), 82_800.0)
    return MarketSpec(
        seed=args.seed, instruments=args.instruments, rate=rate, start=args.start, messages=args.messages,
        day_s=day_s, preopen_s=day_s / 20, overnight=True, orders=350 if args.instruments <= 2_000 else 120,
    )  # fmt: skip


def metadata(spec: MarketSpec, instruments: tuple[Instrument, ...]) -> Metadata:
    """Metadata that names every instrument, over all the days the simulation can reach."""
    days = -(-round(spec.day_s * NS) // DAY_NS)
    first, last = ns_to_date(spec.start), ns_to_date(spec.start + 400 * days * DAY_NS)
    return Metadata(
        dataset=DATASET,
        start=spec.start,
        symbols=tuple(one.symbol for one in instruments),
        mappings=tuple(
            SymbolMapping(one.symbol, (Interval(first, last, str(one.instrument_id)),)) for one in instruments
        ),
    )


def _report(done: int, total: int, began: float, *, last: bool) -> None:
    """A bar on a terminal, otherwise one line at the end."""
    seconds = max(time.monotonic() - began, 1e-9)
    rate = done / seconds
    if sys.stderr.isatty():
        filled = round(_BAR * done / total)
        left = (total - done) / max(rate, 1e-9)
        bar = "#" * filled + "." * (_BAR - filled)
        end = "\n" if last else ""
        print(f"\r{bar} {done:,} records, {rate / 1e6:.2f} M/s, {left:4.0f} s left", end=end, file=sys.stderr)
    elif last:
        print(f"{done:,} records in {seconds:.1f} s ({rate / 1e6:.2f} M/s)", file=sys.stderr)


def run(args: argparse.Namespace) -> int:
    spec = _spec(args)
    simulation = Simulation(spec)
    began = shown = time.monotonic()
    try:
        with Writer(args.out, metadata(spec, traded(spec.instruments))) as out:
            for item in simulation.items():
                if isinstance(item, dict):
                    continue  # statuses and days: not part of schema mbo
                out.write(item)
                if time.monotonic() - shown > 0.2:
                    shown = time.monotonic()
                    _report(out.records, args.messages, began, last=False)
            _report(out.records, args.messages, began, last=True)
        if args.truth:
            with Path(args.truth).open("w", encoding="utf-8") as truth:
                truth.writelines(f"{line}\n" for line in simulation.truth_lines())
    except OSError as error:
        raise SourceError(
            f"{error.filename or args.out}: cannot be written: {error.strerror or error}"
        ) from error
    return 0
