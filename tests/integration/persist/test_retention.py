"""Retention by age and size: what is left can still be rebuilt, replayed and exported from its first image on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from services.persist import reader
from services.persist.local import LocalHistory
from services.persist.retention import DAY_NS, Retention
from services.persist.store import Store, store_path
from shared.broker import Broker
from shared.errors import StoreError
from shared.history_client import replay
from shared.history_types import HistoryError
from shared.records import Rows
from shared.wire.keys import shard_of
from tests.support.mbo import START_NS, random_rows
from tests.support.recording import Feed, drain, writer

RECORDS = 6000
STEP_NS = DAY_NS // 500  # twelve days in all


def _rows(seed: int = 1) -> Rows:
    rows = random_rows(RECORDS, instruments=6, seed=seed)
    rows["ts_recv"] = rows["ts_event"] = START_NS + np.arange(RECORDS) * STEP_NS
    rows["action"][::5] = ord("T")
    return rows


def _record(
    broker: Broker, broker_url: str, prefix: str, data: Path, feed: Feed, rows: Rows, *, block_rows: int = 150
) -> None:
    recorder = writer(broker_url, prefix, data, block_rows=block_rows, image_records=400)
    recorder.open()
    recorder.read_count = 1
    feed.records(rows, most=200)
    drain(recorder)
    recorder.close()


def _retain(data: Path, *, days: float = 0, size: int = 0) -> int:
    """Apply retention until it removes nothing more; records removed."""
    store = Store(store_path(data, "feed"))
    retention = Retention(store.path, keep_days=days, keep_bytes=size)
    removed, now = 0, 0.0
    while step := retention.step(store.db, now):
        removed += step
        now += 60
    store.close()
    return removed


def _check_what_is_left(data: Path, feed: Feed, run: int = 1) -> list[int]:
    history = LocalHistory(data)
    info = next(one for one in history.sessions("feed") if one.run == run)
    for shard, floor in enumerate(info.floors):
        whole = feed.of_shard(shard)
        left = np.concatenate(
            [e.records for e in history.entries("feed", run, shard, floor + 1) if e.records is not None]
        )
        assert left.tobytes() == whole[len(whole) - len(left) :].tobytes()
        assert history.state("feed", run, shard, feed.last[shard]).ordinal == feed.last[shard]
        assert history.state("feed", run, shard, floor).ordinal == floor
        if floor:
            with pytest.raises(HistoryError, match="not in the store"):
                list(history.entries("feed", run, shard, 1))
    db = sqlite3.connect(store_path(data, "feed"))
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    return list(info.floors)


def test_what_is_older_than_its_days_goes_and_the_rest_works(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed, rows = Feed(broker, shards=2), _rows()
    _record(broker, broker_url, prefix, tmp_path, feed, rows)
    removed = _retain(tmp_path, days=5)
    floors = _check_what_is_left(tmp_path, feed)
    assert all(floors)
    assert RECORDS * 0.3 < removed < RECORDS * 0.6  # 7 of 12 days, less what an image interval keeps
    history = LocalHistory(tmp_path)
    limit = int(rows["ts_recv"][-1]) - 5 * DAY_NS
    (span,) = history.spans("feed", "3")
    mine = rows[rows["instrument_id"] == 3]
    kept = mine[mine["ts_recv"] >= limit]
    assert b"".join(part.rows.tobytes() for part in history.records(span, limit)) == kept.tobytes()
    assert sum(len(part) for part in history.trades(span, limit)) == int((kept["action"] == ord("T")).sum())
    ends = [history.state("feed", 1, shard, feed.last[shard]).state_hash() for shard in range(2)]
    played = replay(history, "feed", 1, [0, 1], start=limit)
    for step in played:
        played.states[step.shard].apply(step.entry)
    assert [played.states[shard].state_hash() for shard in range(2)] == ends
    with pytest.raises(HistoryError):
        history.book_at("feed", "3", START_NS + DAY_NS)


def test_a_file_over_its_size_loses_its_oldest_first_and_gets_smaller(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = Feed(broker, shards=2)
    _record(broker, broker_url, prefix, tmp_path, feed, _rows())
    path = store_path(tmp_path, "feed")
    before = path.stat().st_size
    assert _retain(tmp_path, size=before // 2) > 0
    _check_what_is_left(tmp_path, feed)
    assert path.stat().st_size <= before // 2 + 100_000


def test_nothing_goes_while_both_limits_are_off_or_kept(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = Feed(broker)
    _record(broker, broker_url, prefix, tmp_path, feed, _rows())
    assert _retain(tmp_path) == 0
    assert _retain(tmp_path, days=100, size=10**12) == 0
    assert _check_what_is_left(tmp_path, feed) == [0]


def test_an_old_run_goes_whole_and_the_writer_goes_on_after_it(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    old = Feed(broker, identity="old")
    _record(broker, broker_url, prefix, tmp_path, old, _rows()[:1000])
    new, rows = Feed(broker, session=2, identity="new"), _rows(2)
    _record(broker, broker_url, prefix, tmp_path, new, rows[1000:5000])
    assert _retain(tmp_path, days=6) > 1000
    assert [info.run for info in LocalHistory(tmp_path).sessions("feed")] == [2]
    _record(broker, broker_url, prefix, tmp_path, new, rows[5000:])
    _check_what_is_left(tmp_path, new, 2)


def test_a_reader_that_retention_overtakes_is_told_instead_of_going_on_behind_the_hole(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "PAGE_ROWS", 20)
    feed, rows = Feed(broker), _rows()
    _record(broker, broker_url, prefix, tmp_path, feed, rows, block_rows=20)
    history = LocalHistory(tmp_path)
    (span,) = history.spans("feed", "3")
    trades, reading, bars = history.trades(span), history.records(span), history.bars(span, 1)
    assert int(next(trades)["ordinal"][-1]) < RECORDS // 2
    next(bars)
    for _ in range(64):  # a page
        assert int(next(reading).ordinals[-1]) < RECORDS // 2
    assert _retain(tmp_path, days=2) > RECORDS // 2
    with pytest.raises((StoreError, HistoryError), match="removed by retention"):
        list(reading)
    for overtaken in (trades, bars):
        with pytest.raises((StoreError, HistoryError), match="removed by retention"):
            list(overtaken)


FAR_NS = START_NS + 100 * 365 * DAY_NS


def test_one_record_from_the_far_future_does_not_age_the_others(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed, rows = Feed(broker, shards=2), _rows()
    rows["ts_recv"][-100] = FAR_NS
    _record(broker, broker_url, prefix, tmp_path, feed, rows)
    removed = _retain(tmp_path, days=5)
    assert RECORDS * 0.3 < removed < RECORDS * 0.6
    assert all(_check_what_is_left(tmp_path, feed))


def test_behind_a_record_from_the_far_future_the_size_limit_takes_no_more_than_it_must(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed, rows = Feed(broker, shards=2), _rows()
    rows["ts_recv"] = rows["ts_event"] = (
        START_NS + np.arange(RECORDS) * 1_000_000
    )  # few bars: the records fill the file
    first = [int(np.flatnonzero(np.isin(rows["instrument_id"], mine))[30]) for mine in _shards(rows)]
    rows["ts_recv"][first] = FAR_NS  # one in each shard, before its first image
    _record(broker, broker_url, prefix, tmp_path, feed, rows)
    path = store_path(tmp_path, "feed")
    bars = "SELECT count(*) FROM bar"
    with sqlite3.connect(path) as db:
        had = db.execute(bars).fetchone()
    assert 0 < _retain(tmp_path, size=path.stat().st_size * 9 // 10) < RECORDS * 0.8
    _check_what_is_left(tmp_path, feed)
    with sqlite3.connect(path) as db:
        assert db.execute(bars).fetchone() == had


def _shards(rows: Rows) -> list[list[int]]:
    ids = np.unique(rows["instrument_id"]).tolist()
    return [[one for one in ids if shard_of(one, 2) == shard] for shard in range(2)]
