"""What an export holds: rows of one schema of one instrument, a batch at a time, in stream order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from shared.errors import UsageError
from shared.export import layouts
from shared.history import History
from shared.history_types import Span
from shared.records import MBO, Rows
from shared.units import ACTION_TRADE


class Schema(NamedTuple):
    """A schema's name in DBN and its record layout."""

    dbn: str
    layout: np.dtype[Any]


# `bars` is one-minute bars; the DBN names of both intervals are taken too.
SCHEMAS: dict[str, Schema] = {
    "mbo": Schema("mbo", MBO),
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
    if schema == "trades":
        return _trades(history, span, start, end)
    if schema in ("bars", "ohlcv-1m", "ohlcv-1s"):
        return _bars(history, span, 1 if schema == "ohlcv-1s" else 60, start, end)
    raise UsageError(f"schema {schema!r} is not one of {', '.join(SCHEMAS)}")


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
