"""One export: a symbol's rows of a schema in a format, as a stream of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.dbn import Interval, Metadata, SymbolMapping
from shared.dbn.metadata import ns_to_date
from shared.errors import UsageError
from shared.export.formats import CONTENT_TYPES, make_encoder
from shared.export.rows import SCHEMAS, rows
from shared.history import History
from shared.history_types import OPEN_END, SessionInfo, Span
from shared.records import recv_times

DAY_NS = 86_400 * 1_000_000_000


@dataclass(slots=True)
class Export:
    """An export being made: iterate `chunks` to the end; `rows` grows, `total` is an upper bound where it is known."""

    chunks: Iterator[bytes]
    content_type: str
    name: str  # of a file, with its extension
    total: int | None
    rows: int = 0


def export(
    history: History, feed: str, symbol: str, schema: str, format: str, *, start: int | None = None,  # noqa: A002
    end: int | None = None, session: int | str | None = None,
) -> Export:  # fmt: skip
    """Rows of `symbol` with start ≤ ts_recv < end from one session (see History.pick) or from `session="all"`.

    Raises UsageError for an unknown schema or format, HistoryError if nothing of the symbol is recorded: both at once,
    not while the chunks are read.
    """
    if schema not in SCHEMAS:
        raise UsageError(f"schema {schema!r} is not one of {', '.join(SCHEMAS)}")
    spans = history.spans(feed, symbol, session=session, start=start, end=end)
    infos = {info.run: info for info in history.sessions(feed)}
    shape = SCHEMAS[schema]
    encoder = make_encoder(
        format, shape.layout, _metadata(history, infos, spans, shape.dbn, symbol, start, end)
    )
    total = None
    if schema == "mbo" and start is None and end is None:
        runs = {(span.run, span.instrument_id) for span in spans}
        total = sum(
            row.records for run in {run for run, _ in runs} for row in history.instruments(feed, run)
            if (run, row.instrument_id) in runs
        )  # fmt: skip
    made = Export(iter(()), CONTENT_TYPES[format], f"{symbol}.{schema}.{format}", total)

    def chunks() -> Iterator[bytes]:
        if head := encoder.head():
            yield head
        for span in spans:
            name = span.symbol or symbol
            for batch in rows(history, span, schema, start, end):
                made.rows += len(batch)
                if chunk := encoder.encode(batch, name):
                    yield chunk
        if tail := encoder.tail():
            yield tail

    made.chunks = chunks()
    return made


def _metadata(
    history: History,
    infos: dict[int, SessionInfo],
    spans: list[Span],
    schema: str,
    symbol: str,
    start: int | None,
    end: int | None,
) -> Metadata:
    """DBN metadata with the symbol's ids by UTC date, as databento's client wants it to name instruments."""
    runs = [infos[span.run] for span in spans]
    first = min(run.first_ts for run in runs) if start is None else start
    last = max(run.last_ts for run in runs) + 1 if end is None else end
    if first >= OPEN_END:
        first = 0
    named: dict[str, list[Interval]] = {}
    for span, following in zip(spans, [*spans[1:], None], strict=True):
        run = infos[span.run]
        low, high = max(first, min(run.first_ts, run.last_ts)), min(last, run.last_ts)
        if (
            span.symbol and len({each.symbol for each in spans}) > 1
        ):  # an id by its number, that had several names
            low = max(low, _begins(history, span, low))
            if following is not None and following.run == span.run:
                high = min(high, _begins(history, following, high) - 1)
        interval = Interval(ns_to_date(low), ns_to_date(max(low, high) + DAY_NS), str(span.instrument_id))
        intervals = named.setdefault(span.symbol or symbol, [])
        if interval not in intervals:
            intervals.append(interval)
    return Metadata(
        dataset=runs[0].dataset[:16], schema=schema, start=first, end=last, symbols=tuple(named),
        mappings=tuple(SymbolMapping(name, tuple(intervals)) for name, intervals in named.items()),
    )  # fmt: skip


def _begins(history: History, span: Span, default: int) -> int:
    """ts_recv of a span's first record."""
    first = next(history.records(span), None)
    return default if first is None else int(recv_times(first.rows)[0]) or default
