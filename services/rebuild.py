"""`mbo rebuild`: order books from DBN files, offline, as JSON lines.

The files go through the same source and the same state machine as in the pipeline: files of a dataset are merged by
ts_recv, a mapping that gives an id another symbol clears its book.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator

from services.ingest.sources.base import EndOfSource
from services.ingest.sources.file import FileSource
from services.ingest.sources.paths import by_dataset, expand, scan
from shared.errors import UsageError
from shared.orderbook.engine import POLICIES, Batch, Level
from shared.orderbook.lines import final_lines
from shared.orderbook.shard import ShardState
from shared.records import BOOK_OPEN, BOOK_SNAPSHOT, Rows
from shared.units import F_LAST
from shared.wire.codec import InEntry

READ_RECORDS = 65_536
PROGRESS_S = 0.2
ENGINES = ("numba", "reference")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help=".dbn or .dbn.zst files or folders of them")
    parser.add_argument("--depth", type=int, metavar="N", help="levels a side (default: all)")
    parser.add_argument(
        "--every",
        choices=("final", "event", "record"),
        default="final",
        help="a line a book at the end, a line an event end, or a line a record, mid-event states too",
    )
    parser.add_argument(
        "--policy",
        choices=POLICIES,
        default=os.environ.get("MBO_REBUILD_POLICY", "raw"),
        help="crossed books: as the venue sent them (raw, the default), uncrossed for the eye, or executed "
        "[MBO_REBUILD_POLICY]",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=os.environ.get("MBO_ENGINE", "numba"), help="[MBO_ENGINE]"
    )


def run(args: argparse.Namespace) -> int:
    """Print the lines; SourceError for files that cannot be read, UsageError for wrong options."""
    if args.depth is not None and args.depth < 1:
        raise UsageError(f"--depth {args.depth}: give 1 or more")
    for name, known in (("policy", POLICIES), ("engine", ENGINES)):
        if getattr(args, name) not in known:  # from the environment: argparse does not check defaults
            raise UsageError(f"--{name} {getattr(args, name)}: give one of {', '.join(known)}")
    groups = by_dataset([scan(path) for path in expand(args.files)])
    for files in groups.values():
        state = ShardState(args.policy, kind=args.engine)
        source = FileSource(files)
        if args.every == "final":
            for _ in _entries(source, progress=True):
                state.apply(_)
            lines: Iterable[str] = final_lines(state.engine, state.symbols, args.depth)
        else:
            lines = _lines(source, state, args.depth, mid_event=args.every == "record")
        for line in lines:
            print(line)
        for note in source.notes:
            print(note, file=sys.stderr)
    return 0


def _entries(source: FileSource, progress: bool = False) -> Iterator[InEntry]:
    """A source as the entries of one shard, the end of the session last."""
    source.open(0, source.spec)
    began = shown = time.monotonic()
    done, ordinal = 0, 1
    ended = False
    while not ended:
        try:
            chunk = source.read(READ_RECORDS, 0.0)
        except EndOfSource:
            ended = True
            yield InEntry(1, ordinal, 0, 0, 0, None, {"type": "end"})
            break
        if chunk is None:
            continue
        n = 1 if chunk.records is None else len(chunk.records)
        yield InEntry(n, ordinal, 0, 0, 0, chunk.records, chunk.control)
        ordinal += n
        done += 0 if chunk.records is None else n
        if progress and sys.stderr.isatty() and time.monotonic() - shown > PROGRESS_S:
            shown = time.monotonic()
            _report(done, source.total, shown - began)
    if progress and sys.stderr.isatty() and shown != began:
        print(file=sys.stderr)
    source.close()


def _report(done: int, total: int | None, seconds: float) -> None:
    rate = done / max(seconds, 1e-9)
    share = f" {done / total:4.0%}, {(total - done) / max(rate, 1.0):.0f} s left" if total else ""
    print(f"\r{done:,} records, {rate / 1e6:.1f} M/s{share}", end="", file=sys.stderr)


def _lines(source: FileSource, state: ShardState, depth: int | None, *, mid_event: bool) -> Iterator[str]:
    """A line for each record that ended an event; with `mid_event` every record is made to end one."""
    index = 0
    for entry in _entries(source):
        if entry.records is None:
            state.apply(entry)
            continue
        records = entry.records
        if mid_event:
            records = records.copy()
            records["flags"] |= F_LAST
        for k in range(len(records)):
            ordinal = entry.first + k
            batch = state.apply(entry._replace(n=1, first=ordinal, records=records[k : k + 1]))
            if _ended(batch, ordinal):
                yield _line(state, records[k : k + 1], index, depth)
            index += 1


def _ended(batch: Batch, ordinal: int) -> bool:
    return any(
        row["ordinal"] == ordinal and not row["flags"] & (BOOK_OPEN | BOOK_SNAPSHOT) for row in batch.touched
    )


def _line(state: ShardState, record: Rows, index: int, depth: int | None) -> str:
    publisher_id, instrument_id = int(record["publisher_id"][0]), int(record["instrument_id"][0])
    bids, asks = state.engine.view(publisher_id, instrument_id, depth)
    line = {
        "record": index,
        "instrument_id": instrument_id,
        "publisher_id": publisher_id,
        "bids": _levels(bids),
        "asks": _levels(asks),
    }
    return json.dumps(line, separators=(",", ":"))


def _levels(levels: list[Level]) -> list[list[int]]:
    return [[level.price, level.size, level.count] for level in levels]
