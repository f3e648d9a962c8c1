"""`mbo export SYMBOL`: files out of the store."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

import zstandard

from services.persist.local import LocalHistory
from shared.errors import UsageError
from shared.export import FORMATS, SCHEMAS, export
from shared.export.export import Export
from shared.history_types import HistoryError, readings
from shared.times import Instant

PROGRESS_S = 0.2  # on a terminal; 5 s otherwise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbol", help="raw symbol, DATASET:SYMBOL or instrument id")
    parser.add_argument(
        "--data", default=os.environ.get("MBO_DATA", "mbo-data"), help="data directory [MBO_DATA]"
    )
    parser.add_argument("--feed", help="feed, if the symbol is recorded in several")
    parser.add_argument("--schema", default="mbo", choices=sorted(SCHEMAS))
    parser.add_argument(
        "--format", default=None, choices=FORMATS, help="default: by the name of --out, else dbn"
    )
    parser.add_argument("--out", required=True, help="file, `-` for stdout; .zst at its end compresses")
    parser.add_argument("--start", help="from this time of ts_recv: ns since the epoch, or RFC 3339")
    parser.add_argument("--end", help="until before this time")
    parser.add_argument("--session", help="session number, or `all`; default: the newest that covers --start")


def run(args: argparse.Namespace) -> int:
    """Write the export; UsageError, HistoryError and StoreError say what is wrong in one line."""
    history = LocalHistory(args.data)
    start, end = (parse_time(text, name) for name, text in (("--start", args.start), ("--end", args.end)))
    if start is not None and end is not None and end <= start:
        raise UsageError("--end is not after --start")
    session = args.session if args.session in (None, "all") else _number(args.session)
    feed, symbol = find(history, args.symbol, args.feed)
    made = export(
        history,
        feed,
        symbol,
        args.schema,
        args.format or by_name(args.out),
        start=start,
        end=end,
        session=session,
    )
    if args.out == "-":
        _copy(made, sys.stdout.buffer)
        return 0
    out = Path(args.out)
    part = out.with_name(out.name + ".part")  # a half-written file never has the name that was asked for
    try:
        with part.open("wb") as file:
            if out.suffix == ".zst":
                with zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(
                    file, closefd=False
                ) as packed:
                    _copy(made, packed)
            else:
                _copy(made, file)
        part.replace(out)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    print(f"{made.rows} rows, {out.stat().st_size} bytes: {out}", file=sys.stderr)
    return 0


def by_name(name: str) -> str:
    """The format a file name asks for."""
    suffixes = [suffix for suffix in Path(name).suffixes if suffix != ".zst"]
    last = suffixes[-1].lstrip(".").lower() if suffixes else "dbn"
    return {"jsonl": "json", "ndjson": "json"}.get(last, last if last in FORMATS else "dbn")


def find(history: LocalHistory, text: str, feed: str | None = None) -> tuple[str, str]:
    """(feed, symbol) of what is asked for; UsageError if it is not recorded, or in several feeds."""
    feeds = history.feeds()
    if not feeds:
        raise UsageError(
            "nothing is recorded here: is --data the directory `mbo persist` (or `mbo up`) writes to?"
        )
    if feed is not None and feed not in feeds:
        raise UsageError(f"no feed {feed!r} here; there are: {', '.join(feeds)}")
    for dataset, symbol in readings(text):
        found = [
            name for name in ([feed] if feed else feeds)
            if _is_of(history, name, dataset) and _has(history, name, symbol)
        ]  # fmt: skip
        if len(found) > 1:
            raise UsageError(f"{text} is recorded in {', '.join(found)}: choose one with --feed")
        if found:
            return found[0], symbol
    raise UsageError(f"no instrument {text!r} is recorded here (feeds: {feed or ', '.join(feeds)})")


def _is_of(history: LocalHistory, feed: str, dataset: str) -> bool:
    return dataset in ("", feed) or any(info.dataset.lower() == dataset for info in history.sessions(feed))


def _has(history: LocalHistory, feed: str, symbol: str) -> bool:
    try:
        return bool(history.spans(feed, symbol, session="all"))
    except HistoryError:
        return False


def parse_time(text: str | None, name: str) -> int | None:
    """ns since the epoch; UsageError if it is no time."""
    try:
        return None if text is None else int(Instant(text))
    except ValueError:
        raise UsageError(f"{name}: {text!r} is not {Instant.form}") from None


def _number(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"--session: {text!r} is neither a number nor `all`")
    return int(text)


def _copy(made: Export, out: BinaryIO | zstandard.ZstdCompressionWriter) -> None:
    """Write all chunks, telling how far it is: a line that is redrawn on a terminal, a plain line now and then else."""
    begun = said = time.monotonic()
    live = sys.stderr.isatty()
    for chunk in made.chunks:
        out.write(chunk)
        now = time.monotonic()
        if now - said >= (PROGRESS_S if live else 5.0):
            said = now
            rate = made.rows / (now - begun)
            share = (
                f", {min(made.rows / made.total, 1):.0%}, {max(made.total - made.rows, 0) / rate:.0f} s left"
                if made.total and rate
                else ""
            )
            text = f"exported {made.rows:,} rows, {rate:,.0f} a second{share}"
            print(f"\r\x1b[K{text}" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)
    if live and said > begun:
        print("\r\x1b[K", end="", file=sys.stderr)
