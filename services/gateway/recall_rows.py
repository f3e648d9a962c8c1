"""Answers of the recall process that are one JSON object, or a file: history pages, books at an instant, exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

from services.gateway import encode
from services.gateway.bodies import levels_body, orders_body
from services.gateway.channels.bars import PERIODS
from services.gateway.problems import bad_parameter
from services.gateway.shards import ShardBooks
from services.gateway.vector import ShardKey
from shared.export import export
from shared.history_client import Directory, History, HistoryError, SessionInfo, Span

Cursor = tuple[int, int]  # index of the span, ordinal (of bars: ts) of the last row given


class Asked:
    """A job and where its answer comes from."""

    def __init__(self, directory: Directory, job: dict[str, Any]) -> None:
        self.directory, self.job = directory, job

    def feed_of(self, symbol: dict[str, Any]) -> tuple[History, str, str]:
        """(history, feed, symbol as the history takes it); HistoryError if no feed has recorded it."""
        text = str(symbol["symbol"])
        if symbol.get("feed"):
            history, feed = self.directory.history(symbol["feed"]), symbol["feed"]
            return history, feed, self._name(history, feed, text, str(symbol["instrument_id"]))
        for (dataset, bare), feed in product(symbol["readings"], self.directory.feeds()):
            history = self.directory.history(feed)
            if dataset not in ("", feed) and all(
                s.dataset.lower() != dataset for s in history.sessions(feed)
            ):
                continue
            with suppress(HistoryError):
                history.spans(feed, bare, session="all")
                return history, feed, bare
        raise HistoryError(f"no instrument {text[:60]!r} is recorded or live: see /v1/instruments")

    def _name(self, history: History, feed: str, symbol: str, number: str) -> str:
        """The symbol; the id if the run asked for has no name for it. HistoryError if it is another's there."""
        run = self.pick(history, feed).run
        try:
            history.spans(feed, symbol, run=run)
        except HistoryError:
            if any(span.symbol not in (None, symbol) for span in history.spans(feed, number, run=run)):
                raise
            return number
        return symbol

    def pick(self, history: History, feed: str) -> SessionInfo:
        """The session asked for; of session=all the newest."""
        session, end = self.job.get("session"), self.job.get("end")
        at = self.job.get("start") or self.job.get("at") or (end - 1 if end else None)
        return history.pick(feed) if session == "all" else history.pick(feed, session, at)

    def range(self, info: SessionInfo) -> tuple[int, int]:
        """[start, end) in ns: what was asked for, else all of the session."""
        start, end = self.job.get("start"), self.job.get("end")
        low = start if start is not None else (info.first_ts if info.records else 0)
        return low, end if end is not None else max(info.last_ts + 1, low + 1)


def who(info: SessionInfo, span: Span, start: int, end: int) -> dict[str, Any]:
    return {
        "symbol": span.symbol or str(span.instrument_id),
        "dataset": info.dataset,
        "feed": info.feed,
        "instrument_id": span.instrument_id,
        "start": str(start),
        "end": str(end),
    }


def spans_of(asked: Asked) -> tuple[History, SessionInfo, list[Span]]:
    """(history, session, where it has the symbol); of session=all the newest, with the times of all."""
    history, feed, symbol = asked.feed_of(asked.job)
    info = asked.pick(history, feed)
    if asked.job.get("session") != "all":
        return history, info, history.spans(feed, symbol, run=info.run)
    runs = [run for run in history.sessions(feed) if run.records]
    first, last = min(run.first_ts for run in runs), max(run.last_ts for run in runs)
    return history, replace(info, first_ts=first, last_ts=last), history.spans(feed, symbol, session="all")


# -- pages -----------------------------------------------------------------------------------------------


def _cursor(text: str | None) -> Cursor:
    if not text:
        return 0, 0
    span, dot, last = text.partition(".")
    if (
        not dot
        or not (span + last).isascii()
        or not (span + last).isdecimal()
        or len(last) > 26
        or len(span) > 6
    ):
        raise bad_parameter("after", "after is `next` of the answer before")
    return int(span), int(last)


def rows(asked: Asked) -> bytes:
    """One page of trades, bbo, bars or mbo."""
    history, info, spans = spans_of(asked)
    job = asked.job
    start, end = asked.range(info)
    first_span, last = _cursor(job.get("after"))
    limit, publisher = job["limit"], job.get("publisher")
    found: list[Any] = []
    follow = None
    for index, span in enumerate(spans[first_span:], first_span):
        previous = last if index == first_span else 0
        after = max(
            previous - 1, 0
        )  # the last row given once more: while it is there, nothing after it is gone
        pages = KINDS[job["kind"]](history, span, span.session, start, end, after, publisher, job)
        if previous and next(pages, (0, None))[0] != previous:
            raise HistoryError(
                "what `after` follows is not there: retention removed it, or it is of other rows"
            )
        for at, row in pages:
            if len(found) == limit:
                follow = f"{index}.{previous}"
                break
            found.append(row)
            previous = at
        if follow:
            break
    return encode.dumps({**who(info, spans[-1], start, end), "rows": found, "next": follow})


Pages = Iterator[tuple[int, Any]]


def _trades(
    history: History,
    span: Span,
    session: int,
    start: int,
    end: int,
    after: int,
    publisher: int | None,
    job: Any,
) -> Pages:
    for batch in history.trades(span, start, end, after if after else None):
        for row in batch.tolist():
            if publisher is None or row[8] == publisher:
                yield row[0], encode.trade(row, session)


def _later(span: Span, after: int) -> Span:
    return replace(span, first=max(span.first, after + 1))


def _bbo(
    history: History,
    span: Span,
    session: int,
    start: int,
    end: int,
    after: int,
    publisher: int | None,
    job: Any,
) -> Pages:
    for batch in history.bbo(_later(span, after), start, end):
        for (
            ordinal,
            ts_event,
            ts_recv,
            _,
            venue,
            _,
            _,
            bid_px,
            ask_px,
            bid_sz,
            ask_sz,
            bid_ct,
            ask_ct,
        ) in batch.tolist():
            if publisher is None or venue == publisher:
                bid, ask = encode.best(bid_px, bid_sz, bid_ct), encode.best(ask_px, ask_sz, ask_ct)
                yield ordinal, {
                    "session": session, "ordinal": ordinal, "publisher_id": venue, "ts_event": str(ts_event),
                    "ts_recv": str(ts_recv), "bid": bid, "ask": ask,
                }  # fmt: skip


def _mbo(
    history: History,
    span: Span,
    session: int,
    start: int,
    end: int,
    after: int,
    publisher: int | None,
    job: Any,
) -> Pages:
    for ordinals, batch in history.records(_later(span, after), start, end):
        for ordinal, row in zip(ordinals.tolist(), batch, strict=True):
            if publisher is None or row["publisher_id"] == publisher:
                yield (
                    ordinal,
                    [
                        session,
                        ordinal,
                        chr(row["action"]),
                        chr(row["side"]),
                        encode.price(int(row["price"])),
                        int(row["size"]),
                        str(row["order_id"]),
                        int(row["flags"]),
                        str(row["ts_event"]),
                        str(row["ts_recv"]),
                        int(row["sequence"]),
                        int(row["publisher_id"]),
                    ],
                )


def _bars(
    history: History,
    span: Span,
    session: int,
    start: int,
    end: int,
    after: int,
    publisher: int | None,
    job: Any,
) -> Pages:
    """Cursor: ts × 65536 + publisher, since a bar is one venue's."""
    seconds = PERIODS[job["period"]] // 10**9
    if job.get("start") is None:
        start -= start % PERIODS[job["period"]]  # the recording's first bar begins before its first record
    if after:
        start = max(start, after >> 16)
    for batch in history.bars(span, seconds, start, end):
        for ts, open_, high, low, close, volume, trades, _, venue, _, _ in batch.tolist():
            at = ts << 16 | venue
            if at > after and (publisher is None or venue == publisher):
                yield (
                    at,
                    {
                        "session": session,
                        "period": job["period"],
                        "ts": str(ts),
                        "open": encode.price(open_),
                        "high": encode.price(high),
                        "low": encode.price(low),
                        "close": encode.price(close),
                        "volume": volume,
                        "trades": trades,
                        "publisher_id": venue,
                    },
                )


KINDS = {"trades": _trades, "bbo": _bbo, "mbo": _mbo, "bars": _bars}


# -- a book at an instant --------------------------------------------------------------------------------


def book(asked: Asked) -> bytes:
    """/v1/book with at=: the same members as live."""
    history, feed, symbol = asked.feed_of(asked.job)
    job = asked.job
    info = history.pick(feed, job.get("session"), job["at"])
    if not info.records or job["at"] < info.first_ts:
        raise HistoryError(f"nothing of {job['symbol']} is recorded at that time: see /v1/days")
    found = history.book_at(feed, symbol, job["at"], job.get("session"))
    books = ShardBooks(ShardKey(feed, found.span.shard), info.policy)
    books.load(found.state)
    books.session = info.session
    named = who(info, found.span, 0, 0)
    head = {name: named[name] for name in ("symbol", "dataset", "feed", "instrument_id")}
    head |= {"publisher_id": job["publisher"], "level": job["level"]}
    number = found.span.instrument_id
    if job["level"] == 3:
        books.orders = found.state
        return encode.dumps({**head, **orders_body(books, number, job["publisher"], job["depth"])})
    return encode.dumps({**head, **levels_body(books, number, job["publisher"], job["depth"])})


def export_file(asked: Asked) -> tuple[Iterable[bytes], str, str]:
    """(chunks, media type, file name)."""
    history, feed, symbol = asked.feed_of(asked.job)
    job = asked.job
    schema = f"ohlcv-{job['period']}" if job["schema"] == "bars" else job["schema"]
    made = export(
        history,
        feed,
        symbol,
        schema,
        job["format"],
        start=job["start"],
        end=job["end"],
        session=job["session"],
    )
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in str(job["symbol"]))
    return made.chunks, made.content_type, f"{safe}.{job['schema']}.{job['format']}"
