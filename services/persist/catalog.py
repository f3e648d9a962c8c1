"""What is recorded in one feed's store: runs, instruments, spans, days and activity, as the history API gives them."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from services.persist.derive import MINUTE_NS, SECOND_NS, seconds
from services.persist.store import UNDEF

Row = dict[str, Any]


def _dicts(cursor: sqlite3.Cursor) -> list[Row]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def sessions(db: sqlite3.Connection) -> list[Row]:
    """Runs, oldest first, as SessionInfo takes them (without `feed`)."""
    rows = _dicts(
        db.execute(
            "SELECT run, session, dataset, policy, shards, identity, spec, began, ended FROM run ORDER BY run"
        )
    )
    for row in rows:
        run = row["run"]
        row["spec"] = json.loads(row["spec"])
        row["state"] = "ended" if row.pop("ended") >= row["shards"] else "open"
        offsets, floors = [0] * row["shards"], [0] * row["shards"]
        for shard, ordinal, floor in db.execute(
            "SELECT shard, ordinal, floor FROM offset WHERE run=?", (run,)
        ):
            offsets[shard], floors[shard] = ordinal, floor
        row["offsets"], row["floors"] = offsets, floors
        row["first_ts"], row["last_ts"], row["records"] = db.execute(
            f"SELECT coalesce(min(first_ts), {UNDEF}), coalesce(max(last_ts), 0), coalesce(sum(records), 0)"  # noqa: S608
            " FROM book WHERE run=?", (run,),
        ).fetchone()  # fmt: skip
    return rows


def instruments(db: sqlite3.Connection, run: int) -> list[Row]:
    """Instruments of a run, as InstrumentInfo takes them: those seen, and those only defined."""
    rows = _dicts(
        db.execute(
            "SELECT b.instrument_id, i.symbol, b.shard, group_concat(b.publisher_id) AS publishers, i.tick_px,"
            " i.multiplier, i.currency, i.expiration, i.display_factor, min(b.first_ts) AS first_ts,"
            " max(b.last_ts) AS last_ts, sum(b.records) AS records, sum(b.trades) AS trades"
            " FROM book b LEFT JOIN instrument i USING (run, instrument_id) WHERE b.run=?1 GROUP BY b.instrument_id"
            " UNION ALL SELECT instrument_id, symbol, shard, '', tick_px, multiplier, currency, expiration,"
            " display_factor, ?2, 0, 0, 0 FROM instrument"
            " WHERE run=?1 AND instrument_id NOT IN (SELECT instrument_id FROM book WHERE run=?1) ORDER BY 1",
            (run, UNDEF),
        )
    )  # fmt: skip
    for row in rows:
        row["publishers"] = sorted(int(p) for p in row["publishers"].split(",") if p)
    return rows


def spans(db: sqlite3.Connection, symbol: str, run: int) -> list[Row]:
    """Where a symbol, or an instrument id under each of its names, is in a run, as Span takes it (without `feed`)."""
    named = (
        "SELECT s.run, r.session, s.shard, s.instrument_id, s.symbol, s.first, coalesce(s.last, ?) AS last"
        " FROM symbol s JOIN run r USING (run) WHERE s.{}=? AND s.run=? ORDER BY s.first"
    )
    found = _dicts(db.execute(named.format("symbol"), (UNDEF, symbol, run)))
    if found or not symbol.isdecimal() or int(symbol) > 2**32:
        return found
    if found := _dicts(db.execute(named.format("instrument_id"), (UNDEF, int(symbol), run))):
        found[0]["first"] = 1  # what came before it had a name
        return found
    return _dicts(
        db.execute(
            "SELECT b.run, r.session, b.shard, b.instrument_id, i.symbol, 1 AS first, ? AS last"
            " FROM book b JOIN run r USING (run) LEFT JOIN instrument i USING (run, instrument_id)"
            " WHERE b.instrument_id=? AND b.run=? LIMIT 1",
            (UNDEF, int(symbol), run),
        )
    )


def days(db: sqlite3.Connection, run: int | None) -> list[Row]:
    """Records and trades of each UTC day of a run (or of all)."""
    rows = _dicts(
        db.execute(
            "SELECT a.run, r.session, minute / 1440 AS day, sum(records) AS records, sum(trades) AS trades,"
            " min(minute) AS first_ts, max(minute) + 1 AS last_ts FROM activity a JOIN run r USING (run)"
            " WHERE ?1 IS NULL OR a.run=?1 GROUP BY a.run, day ORDER BY a.run, day", (run,),
        )
    )  # fmt: skip
    for row in rows:
        row["date"] = datetime.fromtimestamp(row.pop("day") * 86_400, UTC).date().isoformat()
        row["first_ts"] *= MINUTE_NS
        row["last_ts"] *= MINUTE_NS
    return rows


def activity(
    db: sqlite3.Connection, run: int, start: int, end: int, buckets: int, instrument_id: int | None
) -> Row:
    """Counts in `buckets` equal steps over [start, end): by minute if a step is one or more, else by second."""
    step = max(1, -(-(end - start) // buckets))
    records, trades = [0] * buckets, [0] * buckets
    for minute, n, t, stored in db.execute(
        "SELECT minute, records, trades, seconds FROM activity WHERE run=? AND minute BETWEEN ? AND ?",
        (run, start // MINUTE_NS, (end - 1) // MINUTE_NS),
    ):
        low = minute * MINUTE_NS
        parts = [(low, low + MINUTE_NS, n, t)]
        if stored and step < MINUTE_NS:
            parts = [
                (low + at * SECOND_NS, low + (at + 1) * SECOND_NS, n, t)
                for at, (n, t) in enumerate(zip(*seconds(stored).tolist(), strict=True)) if n
            ]  # fmt: skip
        for a, b, n, t in parts:
            if b <= start or a >= end:
                continue
            a, b = max(start, a), min(end, b)
            _spread(records, a, b, start, step, n)
            if instrument_id is None and t:
                _spread(trades, a, b, start, step, t)
    if instrument_id is not None:
        for bucket, t in db.execute(
            "SELECT max(ts - ?1, 0) / ?2 AS bucket, sum(trades) FROM bar WHERE run=?3 AND instrument_id=?4"
            " AND interval_s=1 AND ts > ?1 - ?6 AND ts < ?5 GROUP BY bucket",
            (start, step, run, instrument_id, end, SECOND_NS),
        ):  # fmt: skip
            trades[min(bucket, buckets - 1)] += t
    return {"start": start, "step": step, "records": records, "trades": trades}


def _spread(counts: list[int], low: int, high: int, start: int, step: int, n: int) -> None:
    """Put `n` evenly into the buckets that [low, high) covers; the sum is kept."""
    first, last = (low - start) // step, min(len(counts) - 1, (max(high - 1, low) - start) // step)
    width = last - first + 1
    edges = [n * i // width for i in range(width + 1)]
    for index, (a, b) in enumerate(pairwise(edges)):
        counts[first + index] += b - a
