"""`mbo sql`: SQL over the store. Records and BBO changes are the tables `mbo` and `bbo`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from services.persist.sql import connect
from services.persist.store import feeds_in
from shared.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "query", nargs="?", help="one statement; none: read statements from the terminal or stdin"
    )
    parser.add_argument(
        "--data", default=os.environ.get("MBO_DATA", "mbo-data"), help="data directory [MBO_DATA]"
    )
    parser.add_argument("--feed", help="feed, if several are recorded")
    parser.add_argument("--format", default="table", choices=("table", "csv", "json"))


def run(args: argparse.Namespace) -> int:
    """Run one statement, or a loop of them; UsageError with SQLite's own words for a wrong one."""
    feeds = feeds_in(args.data)
    if not feeds:
        raise UsageError(f"nothing is recorded in {args.data}: is it the directory `mbo persist` writes to?")
    if args.feed is None and len(feeds) > 1:
        raise UsageError(f"several feeds are recorded ({', '.join(feeds)}): choose one with --feed")
    if args.feed is not None and args.feed not in feeds:
        raise UsageError(f"no feed {args.feed!r} here; there are: {', '.join(feeds)}")
    db, failure = connect(args.data, args.feed or feeds[0])
    write = {"table": _table, "csv": _csv, "json": _json}[args.format]
    if args.query is not None:
        try:
            _one(db, args.query, write)
        except failure as error:
            raise UsageError(f"SQL: {error}") from error
        return 0
    for statement in _statements():
        try:
            _one(db, statement, write)
        except failure as error:
            print(f"SQL: {error}", file=sys.stderr)
            if not sys.stdin.isatty():
                return 2
    return 0


def _one(db: Any, statement: str, write: Callable[[Sequence[str], Iterator[Sequence[Any]]], None]) -> None:
    cursor = db.cursor().execute(statement)
    try:
        names = [column[0] for column in cursor.getdescription()]
    except Exception:  # noqa: BLE001 - apsw: a statement without rows has no description, nor one that is done
        names = []
    write(names, cursor)


def _statements() -> Iterator[str]:
    """Statements from stdin, each ended by a semicolon; a prompt on a terminal."""
    live, held = sys.stdin.isatty(), ""
    if live:
        print(
            "tables: mbo bbo trades bars instruments run control …; end a statement with ; and this with Ctrl-D"
        )
    while True:
        if live:
            print("mbo> " if not held else "...> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            if held.strip():
                yield held
            return
        held += line
        if held.rstrip().endswith(";"):
            yield held
            held = ""


def _csv(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout)
    if names:
        writer.writerow(names)
    writer.writerows(rows)


def _json(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    for row in rows:
        print(json.dumps(dict(zip(names, row, strict=True)), default=str))


def _table(names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """Columns as wide as their first 200 rows need."""
    first = []
    for row in rows:
        first.append(row)
        if len(first) == 200:
            break
    if not names:
        return
    widths = [
        max(len(name), *(len(_shown(row[i])) for row in first), 1) if first else len(name)
        for i, name in enumerate(names)
    ]
    print("  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)).rstrip())
    for part in (first, rows):
        for row in part:
            print(
                "  ".join(_aligned(value, width) for value, width in zip(row, widths, strict=True)).rstrip()
            )


def _shown(value: Any) -> str:
    return "" if value is None else f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


def _aligned(value: Any, width: int) -> str:
    text = _shown(value)
    return text.rjust(width) if isinstance(value, int | float) else text.ljust(width)
