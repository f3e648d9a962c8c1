"""Answers of the recall process about what is recorded when: activity over time, days, first and last times."""

from __future__ import annotations

from datetime import UTC, datetime

from services.gateway import encode
from services.gateway.recall_rows import Asked, spans_of, who
from shared.units import UNDEF_TS

FINE_NS = (
    6 * 3600 * 10**9
)  # volume of an activity histogram: from 1 s bars up to this range, then from 1 m bars


def activity(asked: Asked) -> bytes:
    """Records of the feed, trades and volume of the instrument, in equal buckets."""
    history, info, spans = spans_of(asked)
    start, end = asked.range(info)
    span = spans[-1]
    buckets = min(asked.job["buckets"], end - start)
    seen = history.activity(info.feed, info.run, start, end, buckets, span.instrument_id)
    volume = [0] * len(seen.records)
    seconds = 1 if end - start <= FINE_NS else 60
    for each in spans:
        for batch in history.bars(each, seconds, start - seconds * 10**9 + 1, end):  # the one it is in, too
            for ts, size in zip(batch["ts"].tolist(), batch["volume"].tolist(), strict=True):
                index = (max(ts, start) - seen.start) // seen.step
                if 0 <= index < len(volume):
                    volume[index] += size
    table = [
        (str(seen.start + index * seen.step), records, trades, volume[index])
        for index, (records, trades) in enumerate(zip(seen.records, seen.trades, strict=True))
    ]
    return encode.dumps({**who(info, span, start, end), "bucket_ns": str(seen.step), "rows": table})


def days(asked: Asked) -> bytes:
    """Every recorded day, newest first; with a symbol only days on which the instrument has records."""
    symbol = asked.job.get("symbol")
    if symbol:
        history, feed, bare = asked.feed_of(asked.job)
        histories = [(history, feed)]
        wanted = {(span.run, span.instrument_id) for span in history.spans(feed, bare, session="all")}
    else:
        histories, wanted = [(asked.directory.history(feed), feed) for feed in asked.directory.feeds()], None
    found = []
    for history, feed in histories:
        infos = {info.run: info for info in history.sessions(feed)}
        instruments = {run: history.instruments(feed, run) for run in infos}
        for day in history.days(feed):
            if wanted is None:
                count = sum(
                    1
                    for row in instruments[day.run]
                    if row.first_ts <= day.last_ts and row.last_ts >= day.first_ts
                )
            else:
                count = sum(
                    1 for row in instruments[day.run]
                    if (day.run, row.instrument_id) in wanted and _on(day.date, row.first_ts, row.last_ts)
                )  # fmt: skip
                if not count:
                    continue
            found.append({
                "date": day.date, "dataset": infos[day.run].dataset, "feed": feed, "session": day.session,
                "first": str(day.first_ts), "last": str(day.last_ts), "records": day.records, "trades": day.trades,
                "instruments": count,
            })  # fmt: skip
    found.sort(key=lambda row: (row["date"], row["feed"], row["session"]), reverse=True)
    return encode.dumps({"days": found})


def _on(date: str, first_ts: int, last_ts: int) -> bool:
    begin = int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * 10**9
    return first_ts < begin + 86_400 * 10**9 and last_ts >= begin


def recorded(asked: Asked) -> bytes:
    """[feed, instrument_id, first, last] of every recorded instrument over all runs, for /v1/instruments."""
    times: dict[tuple[str, int], tuple[int, int]] = {}
    for feed in asked.directory.feeds():
        history = asked.directory.history(feed)
        for info in history.sessions(feed):
            for row in history.instruments(feed, info.run):
                if row.records and row.first_ts < UNDEF_TS:
                    first, last = times.get((feed, row.instrument_id), (row.first_ts, row.last_ts))
                    times[feed, row.instrument_id] = (min(first, row.first_ts), max(last, row.last_ts))
    return encode.dumps(
        [[feed, number, str(first), str(last)] for (feed, number), (first, last) in times.items()]
    )
