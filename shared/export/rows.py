"""What an export holds: rows of one schema of one instrument, a batch at a time, in stream order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from shared.errors import UsageError
from shared.export import layouts
from shared.export.mbp import Mbp
from shared.history import History
from shared.history_types import Span, cut_by_time
from shared.orderbook.engines import restore_engine
from shared.records import MBO, Rows, joined
from shared.units import ACTION_TRADE


class Schema(NamedTuple):
    """A schema's name in DBN and its record layout."""

    dbn: str
    layout: np.dtype[Any]


# `bars` is one-minute bars; the DBN names of both intervals are taken too.
SCHEMAS: dict[str, Schema] = {
    "mbo": Schema("mbo", MBO),
    "mbp-1": Schema("mbp-1", layouts.MBP1),
    "mbp-10": Schema("mbp-10", layouts.MBP10),
    "trades": Schema("trades", layouts.TRADES),
    "bars": Schema("ohlcv-1m", layouts.OHLCV),
    "ohlcv-1m": Schema("ohlcv-1m", layouts.OHLCV),
    "ohlcv-1s": Schema("ohlcv-1s", layouts.OHLCV),
}
_UPDATE_FIELDS = (
    "publisher_id", "instrument_id", "ts_event", "price", "size", "action", "side", "flags", "ts_recv",
    "ts_in_delta", "sequence",
)  # fmt: skip


def rows(history: History, span: Span, schema: str, start: int | None, end: int | None) -> Iterator[Rows]:
    """Batches of rows of SCHEMAS[schema]; start ≤ ts_recv < end (bars: ts). UsageError for another name."""
    if schema == "mbo":
        return (part.rows for part in history.records(span, start, end))
    if schema in ("mbp-1", "mbp-10"):
        return _mbp(history, span, int(schema[4:]), start, end)
    if schema == "trades":
        return _trades(history, span, start, end)
    if schema in ("bars", "ohlcv-1m", "ohlcv-1s"):
        return _bars(history, span, 1 if schema == "ohlcv-1s" else 60, start, end)
    raise UsageError(f"schema {schema!r} is not one of {', '.join(SCHEMAS)}")


def _mbp(history: History, span: Span, depth: int, start: int | None, end: int | None) -> Iterator[Rows]:
    """Rows of every publisher's book, in stream order, from the book as it stood before `start`."""
    info = next(run for run in history.sessions(span.feed) if run.run == span.run)
    floor = info.floors[span.shard]
    before = span.first - 1 if start is None else history.position(span.feed, span.run, start - 1)[span.shard]
    before = max(before, span.first - 1, floor)
    engine = history.book_of(span, before, floor=floor).state.engine
    image = engine.image()
    books = {
        publisher: Mbp(depth, restore_engine(image, outputs="bbo"), (publisher, instrument))
        for publisher, instrument in engine.books()
        if instrument == span.instrument_id
    }
    rest = replace(span, first=before + 1)
    for part in history.records(rest, None, end):
        yield from _in_order(
            [_of_publisher(books, depth, part.rows, one) for one in _publishers(part.rows)], start, end
        )
    yield from _in_order([list(book.end()) for book in books.values()], start, end)


def _publishers(records: Rows) -> list[int]:
    first = int(records["publisher_id"][0])
    return (
        [first] if (records["publisher_id"] == first).all() else np.unique(records["publisher_id"]).tolist()
    )


def _of_publisher(books: dict[int, Mbp], depth: int, records: Rows, publisher: int) -> list[Rows]:
    if publisher not in books:
        books[publisher] = Mbp(depth)
    mine = records["publisher_id"] == publisher
    return list(books[publisher].rows(records if mine.all() else records[mine]))


def _in_order(parts: list[list[Rows]], start: int | None, end: int | None) -> Iterator[Rows]:
    """Rows of several publishers by ts_recv (each one's own order is kept), cut to the range."""
    made = [rows for part in parts for rows in part]
    if not made:
        return
    if len(parts) > 1:
        rows = joined(made)
        made = [rows[np.argsort(rows["ts_recv"], kind="stable")]]
    for rows in made:
        inside = rows[cut_by_time(rows, start, end)]
        if len(inside):
            yield inside


def _trades(history: History, span: Span, start: int | None, end: int | None) -> Iterator[Rows]:
    """DBN trades are the records of action T: from the records, which have every field exactly."""
    for part in history.records(span, start, end):
        records = part.rows[part.rows["action"] == ACTION_TRADE]
        if not len(records):
            continue
        out = np.zeros(len(records), layouts.TRADES)
        for name in _UPDATE_FIELDS:
            out[name] = records[name]
        out["length"], out["rtype"] = layouts.TRADES.itemsize // 4, layouts.RTYPE_TRADES
        yield out


def _bars(
    history: History, span: Span, interval_s: int, start: int | None, end: int | None
) -> Iterator[Rows]:
    for bars in history.bars(span, interval_s, start, end):
        out = np.zeros(len(bars), layouts.OHLCV)
        for name in ("publisher_id", "instrument_id", "open", "high", "low", "close", "volume"):
            out[name] = bars[name]
        out["ts_event"] = bars["ts"]
        out["length"], out["rtype"] = layouts.OHLCV.itemsize // 4, layouts.RTYPE_OHLCV[interval_s]
        yield out
