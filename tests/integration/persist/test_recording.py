"""A writer on a real broker: everything that goes in comes out, in order, once."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from services.persist.local import LocalHistory
from services.persist.store import store_path
from shared.broker import Broker
from shared.errors import StoreError
from shared.history_types import segments, stored_entry
from shared.orderbook.shard import ShardState
from shared.wire.codec import encode_records
from shared.wire.keys import shard_of
from tests.support.mbo import random_rows
from tests.support.recording import Feed, assert_stored, drain, flatten, load, writer

FILES = [
    "clx5-20250924.mbo.dbn", "arl-20250717.mbo.v1.dbn", "arl-20250717.mbo.v2.dbn.zst", "arl-20250717.mbo.v3.dbn.zst",
    "esm4-20240508-snapshot.mbo.dbn.zst",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_comes_back_record_for_record(
    name: str, market_data: Path, broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows, symbols = load(market_data / name)
    feed = Feed(broker, shards=2)
    for instrument, symbol in symbols.items():
        feed.mapping(instrument, symbol)
    feed.records(rows)
    feed.end()
    recorder = writer(broker_url, prefix, tmp_path)
    assert recorder.open()
    drain(recorder)
    history = LocalHistory(tmp_path)
    assert_stored(history, feed)
    assert [feed.position(shard) for shard in range(2)] == [f"1-{last}" for last in feed.last]
    instrument, symbol = next(iter(symbols.items()))
    (span,) = history.spans("feed", symbol)
    own = np.concatenate([part.rows for part in history.records(span)])
    assert own.tobytes() == rows[rows["instrument_id"] == instrument].tobytes()
    recorder.close()


def test_derived_rows_do_not_depend_on_commits_and_restarts(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path, market_data: Path
) -> None:
    rows, symbols = load(market_data / FILES[1])
    instrument, symbol = next(iter(symbols.items()))
    feed = Feed(broker)
    feed.mapping(instrument, symbol)
    feed.records(rows, most=40)
    feed.end()
    answers = []
    for name, block_rows, restart in (("once", 100_000, 0), ("often", 700, 5)):
        data = tmp_path / name
        recorder = writer(broker_url, prefix, data, block_rows=block_rows, image_records=1000)
        recorder.open()
        recorder.read_count = 3
        passes = 0
        while recorder.poll():
            recorder.commit()
            recorder.settle()
            passes += 1
            if restart and passes % restart == 0:
                recorder.close()
                recorder.open()
        recorder.close()
        history = LocalHistory(data)
        (span,) = history.spans("feed", symbol)
        streams = (history.bbo(span), history.trades(span), history.bars(span, 1), history.bars(span, 60))
        tables = [b"".join(part.tobytes() for part in stream) for stream in streams]
        tables.append(repr(history.instruments("feed", 1)).encode())
        tables.append(repr(history.days("feed")).encode())
        answers.append(tables)
        assert history.state("feed", 1, 0, feed.last[0]).state_hash() == _offline(feed).state_hash()
    assert answers[0] == answers[1]
    assert all(len(table) > 100 for table in answers[0])


def _offline(feed: Feed) -> ShardState:
    """The shard as if nothing had ever been stored."""
    state = ShardState()
    rows = feed.of_shard(0)
    is_control = np.zeros(feed.last[0], bool)
    is_control[[ordinal - 1 for ordinal in feed.controls[0]]] = True
    ordinals = np.flatnonzero(~is_control).astype(np.uint64) + np.uint64(1)
    pieces = [stored_entry(1, ordinal, None, body) for ordinal, body in feed.controls[0].items()]
    pieces += [stored_entry(b - a, int(ordinals[a]), rows[a:b], None) for a, b in segments(ordinals)]
    for entry in sorted(pieces, key=lambda one: one.first):
        state.apply(entry)
    return state


def _check_instants(
    name: str, samples: int, broker: Broker, url: str, prefix: str, data: Path, folder: Path
) -> None:
    """Books at random instants, whole shards at random ordinals, against one rebuild that never saw a store."""
    rows, symbols = load(folder / name)
    instrument, symbol = next(iter(symbols.items()))
    feed = Feed(broker)
    feed.mapping(instrument, symbol)
    feed.records(rows)
    recorder = writer(url, prefix, data, block_rows=2000, image_records=3000)
    recorder.open()
    recorder.read_count = 4
    drain(recorder)
    recorder.close()
    history = LocalHistory(data)
    draw, times = random.Random(6), rows["ts_recv"]
    low, high = int(times[0]), int(times[-1])
    instants = sorted([low - 1, low, high, high + 1, *(draw.randint(low, high) for _ in range(samples))])
    offline = ShardState()
    for entry in history.entries("feed", 1, 0, 1, 2):
        offline.apply(entry)
    for at in instants:
        known = int(np.searchsorted(times, np.uint64(at), "right"))
        if known > offline.ordinal - 2:
            part = np.ascontiguousarray(rows[offline.ordinal - 2 : known])
            offline.apply(stored_entry(len(part), offline.ordinal + 1, part, None))
        found = history.book_at("feed", symbol, at)
        assert found.ordinal == offline.ordinal
        assert found.state.state_hash() == offline.state_hash()
    assert history.state("feed", 1, 0, feed.last[0]).state_hash() == offline.state_hash()


@pytest.mark.parametrize("name", [FILES[0], FILES[1], FILES[4]])
def test_the_book_at_a_random_instant_is_the_offline_rebuild(
    name: str, broker: Broker, broker_url: str, prefix: str, tmp_path: Path, market_data: Path
) -> None:
    _check_instants(name, 40, broker, broker_url, prefix, tmp_path, market_data)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_books_at_a_thousand_instants_are_the_offline_rebuild(
    name: str, broker: Broker, broker_url: str, prefix: str, tmp_path: Path, market_data: Path
) -> None:
    _check_instants(name, 1000, broker, broker_url, prefix, tmp_path, market_data)


def test_the_second_time_adds_nothing(broker: Broker, broker_url: str, prefix: str, tmp_path: Path) -> None:
    feed = Feed(broker, shards=3)
    feed.records(random_rows(5000, instruments=20))
    for _ in range(2):
        recorder = writer(broker_url, prefix, tmp_path)
        recorder.open()
        drain(recorder)
        recorder.close()
    assert_stored(LocalHistory(tmp_path), feed)
    assert LocalHistory(tmp_path).sessions("feed")[0].records == 5000


def test_entries_sent_again_with_other_boundaries_are_stored_once(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = random_rows(3000)
    feed = Feed(broker)
    feed.records(rows[:2000])
    recorder = writer(broker_url, prefix, tmp_path, block_rows=500)
    recorder.open()
    drain(recorder)
    # the broker loses its tail: everything after the first 700 records is gone, and comes back cut differently
    tail = broker.call("XRANGE", feed.stream(0), "1-702", "+")
    broker.pipe([("XDEL", feed.stream(0), *(entry[0] for entry in tail))])
    broker.call("DEL", feed.stream(0))
    feed.put(0, 701, encode_records(rows[:700], 2, 0, 0, 0))
    for at in range(700, 2000, 130):
        part = np.ascontiguousarray(rows[at : min(at + 130, 2000)])
        feed.put(0, 1 + at + len(part), encode_records(part, 2 + at, 0, 0, 0))
    assert recorder.poll() == 0
    feed.records(rows[2000:])
    drain(recorder)
    recorder.close()
    assert_stored(LocalHistory(tmp_path), feed)


def test_an_id_that_changes_its_symbol_has_two_spans(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = random_rows(1000, instruments=1)
    feed = Feed(broker)
    feed.mapping(1, "OLD")
    feed.records(rows[:600])
    feed.mapping(1, "NEW")
    feed.records(rows[600:])
    recorder = writer(broker_url, prefix, tmp_path)
    recorder.open()
    drain(recorder)
    recorder.close()
    history = LocalHistory(tmp_path)
    for symbol, part in (("OLD", rows[:600]), ("NEW", rows[600:])):
        (span,) = history.spans("feed", symbol)
        assert b"".join(piece.rows.tobytes() for piece in history.records(span)) == part.tobytes()
    assert [span.symbol for span in history.spans("feed", "1")] == ["OLD", "NEW"]


def test_two_writers_of_one_file_are_refused(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    Feed(broker)
    one, two = writer(broker_url, prefix, tmp_path), writer(broker_url, prefix, tmp_path)
    one.open()
    with pytest.raises(StoreError, match="written by another persist"):
        two.open()
    one.close()
    assert two.open()
    two.close()


def test_a_reader_that_stands_still_does_not_hold_the_log(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = Feed(broker)
    feed.records(random_rows(3000))
    recorder = writer(broker_url, prefix, tmp_path, block_rows=200)
    recorder.open()
    drain(recorder)
    history = LocalHistory(tmp_path)
    slow = history.entries("feed", 1, 0)
    begun = [next(slow) for _ in range(4)]
    feed.records(random_rows(3000, seed=3))
    drain(recorder)
    assert recorder.store is not None
    busy, log, done = recorder.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, log, done) == (0, 0, 0)
    found, _ = flatten([*begun, *slow])
    assert found.tobytes() == feed.of_shard(0).tobytes()  # and it sees what came meanwhile
    recorder.close()


def test_the_file_is_whole_and_plain_sqlite_reads_it(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = random_rows(4000, instruments=3)
    rows["action"][::10] = ord("T")
    rows["flags"] = 128
    feed = Feed(broker, shards=2)
    for instrument in (1, 2, 3):
        feed.mapping(instrument, f"SYM{instrument}")
    feed.records(rows)
    recorder = writer(broker_url, prefix, tmp_path, block_rows=600)
    recorder.open()
    drain(recorder)
    recorder.close()
    db = sqlite3.connect(store_path(tmp_path, "feed"))
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    ones = rows[(rows["instrument_id"] == 1) & (rows["action"] == ord("T"))]
    stored = db.execute(
        "SELECT ts_event, price, size, side FROM trades WHERE symbol='SYM1' ORDER BY ordinal"
    ).fetchall()
    assert stored == [
        (int(r["ts_event"]), int(r["price"]) / 1e9, int(r["size"]), chr(r["side"])) for r in ones
    ]
    volume = db.execute(
        "SELECT sum(volume), sum(trades) FROM bars WHERE symbol='SYM1' AND interval_s=60"
    ).fetchone()
    assert volume == (int(ones["size"].sum()), len(ones))
    assert db.execute("SELECT records FROM instruments WHERE symbol='SYM2'").fetchone() == (
        int((rows["instrument_id"] == 2).sum()),
    )
    db.close()


def test_shards_of_one_feed_are_all_recorded_in_one_file(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = random_rows(6000, instruments=50)
    feed = Feed(broker, shards=4)
    feed.records(rows)
    recorder = writer(broker_url, prefix, tmp_path, block_rows=500)
    recorder.open()
    drain(recorder, commit_every=3)
    recorder.close()
    history = LocalHistory(tmp_path)
    assert_stored(history, feed)
    for instrument in (1, 17, 50):
        (span,) = history.spans("feed", str(instrument))
        assert span.shard == shard_of(instrument, 4)
        own = b"".join(piece.rows.tobytes() for piece in history.records(span))
        assert own == rows[rows["instrument_id"] == instrument].tobytes()
