"""The process: what it advertises, how it ends, and what it says when it cannot store."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.persist.retention import Retention
from services.persist.service import PersistService
from services.persist.settings import PersistSettings
from services.persist.store import Store, store_path
from services.persist.writer import FeedWriter
from shared.broker import Broker
from shared.history_client import Directory, HistoryDown
from shared.wire.codec import encode_records
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.recording import COMMIT_FAILS, Feed, assert_stored, writer


@contextmanager
def persist(broker: Broker, data: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """`mbo persist` as containers run it."""
    command = [
        sys.executable, "-m", "services.persist", "--broker", broker.url, "--prefix", broker.keys.prefix, "--data",
        str(data), "--commit-ms", "20", "--log", "json", *args,
    ]  # fmt: skip
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MBO_")}
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _events(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    assert process.stderr is not None
    return [json.loads(line) for line in process.stderr.read().splitlines() if line.startswith("{")]


def test_it_serves_what_it_records_and_ends_cleanly(broker: Broker, tmp_path: Path) -> None:
    feed = Feed(broker, "some.feed")
    rows = random_rows(3000)
    feed.records(rows[:2000])
    directory = Directory(broker)
    with persist(broker, tmp_path) as process:
        eventually(lambda: feed.position(0) == "1-2001", timeout_s=150)
        history = eventually(
            lambda: "some.feed" in _advertised(broker) and directory.history("some.feed"), timeout_s=150
        )
        assert_stored(history, feed)
        feed.records(rows[2000:])  # what comes while it runs is readable as soon as it is acknowledged
        eventually(lambda: feed.position(0) == "1-3001")
        assert_stored(history, feed)
        history.close()
        advertised = json.loads(_advertised(broker)["some.feed"])["url"]
        admin = eventually(lambda: _admin(broker))
        assert eventually(lambda: _health(admin)["history"]) == advertised, "where it is, or null until it is"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert all(event["level"] != "error" for event in _events(process))
    assert _advertised(broker) == {}


def _advertised(broker: Broker) -> dict[str, str]:
    return broker.hash(broker.keys.history)


def test_the_reader_ends_with_a_killed_persist(broker: Broker, tmp_path: Path) -> None:
    Feed(broker)
    with persist(broker, tmp_path) as process:
        row = json.loads(eventually(lambda: _advertised(broker).get("feed"), timeout_s=150))
        process.kill()
        process.wait()

    def gone() -> bool:
        try:
            urllib.request.urlopen(row["url"], timeout=1)
        except urllib.error.HTTPError:
            return False
        except OSError:
            return True
        return False

    eventually(gone)


def test_a_second_persist_on_the_same_files_is_refused_in_one_line(broker: Broker, tmp_path: Path) -> None:
    Feed(broker)
    held = Store(store_path(tmp_path, "feed"))
    with persist(broker, tmp_path) as process:
        assert process.wait(150) == 1
        last = _events(process)
    held.close()
    said = [str(event["detail"]) for event in last if event["level"] == "error"]
    assert "written by another persist" in said[-1]


def test_a_file_that_cannot_be_written_is_said_and_tried_again_while_others_are_recorded(
    broker: Broker, tmp_path: Path
) -> None:
    good, bad = Feed(broker, "good"), Feed(broker, "bad")
    path = store_path(tmp_path, "bad")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all" * 1000)
    rows = random_rows(500)
    with persist(broker, tmp_path, "--admin-port", "0", "--no-history") as process:
        good.records(rows)
        bad.records(rows)
        eventually(lambda: good.position(0) == "1-501", timeout_s=150)
        admin = eventually(lambda: _admin(broker))
        facts = eventually(lambda: (found := _health(admin))["problems"] == 1 and found)
        assert "damaged" in facts["feeds"]["bad"]["problem"]
        assert (facts["feeds"]["good"]["recording"], facts["feeds"]["good"]["problem"]) == (True, None)
        metrics = urllib.request.urlopen(f"{admin}/metrics", timeout=5).read().decode()
        assert 'mbo_persist_store_failed{feed="bad",why="corrupt"} 1.0' in metrics
        assert bad.position(0) is None
        path.unlink()  # the operator moves it aside
        eventually(lambda: bad.position(0) == "1-501", timeout_s=90)
        eventually(lambda: _health(admin)["problems"] == 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _admin(broker: Broker) -> str | None:
    rows = [json.loads(row) for row in broker.hash(broker.keys.procs).values()]
    return next((row["admin"] for row in rows if row["role"] == "persist"), None)


def _health(admin: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{admin}/readyz", timeout=5) as answer:
        return json.loads(answer.read())  # type: ignore[no-any-return]


def test_an_advertisement_that_has_not_been_renewed_is_not_believed(broker: Broker) -> None:
    old = {"url": "http://127.0.0.1:9", "token": "x", "at": (time.time() - 60) * 1000}
    broker.call("HSET", broker.keys.history, "feed", json.dumps(old))
    directory = Directory(broker)
    assert directory.feeds() == []
    with pytest.raises(HistoryDown):
        directory.history("feed")


def test_an_advertisement_is_judged_by_the_brokers_clock(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"url": "http://127.0.0.1:9", "token": "x", "at": broker.time_ms(broker.keys.history)}
    broker.call("HSET", broker.keys.history, "feed", json.dumps(row))
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + 60)
    assert Directory(broker).feeds() == ["feed"]


def test_lag_is_the_age_of_the_oldest_record_not_of_the_read(broker: Broker, tmp_path: Path) -> None:
    """A writer an hour behind reads and commits without a pause: each record it holds was read a moment ago."""
    feed = Feed(broker)
    ours = writer(broker.url, broker.keys.prefix, tmp_path)
    ours.open()
    ours.poll()
    ours.commit()
    ours.settle()
    for ts_ingest in (5_000, 6_000):
        first, rows = feed.last[0] + 1, random_rows(10)
        feed.last[0] += len(rows)
        feed.put(0, feed.last[0], encode_records(rows, first, 0, ts_ingest, 0))
    ours.poll()
    assert (ours.pending, ours.oldest_ns) == (20, 5_000)
    ours.commit()
    ours.settle()
    assert (ours.pending, ours.oldest_ns) == (0, 5_000), "until the next read says otherwise"
    ours.close()


@pytest.mark.parametrize("due", ["a commit", "retention"])
def test_a_commit_that_fails_late_stops_its_feed_only_until_it_is_tried_again(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, due: str
) -> None:
    """The disk says so when the next commit, or retention, waits for it."""
    settle = FeedWriter.settle
    monkeypatch.setattr(FeedWriter, "settle", lambda self, *, wait=True: settle(self) if wait else None)
    monkeypatch.setattr("services.persist.service.RETRY_FIRST_S", 0.05)
    monkeypatch.setattr("services.persist.service.DISCOVER_S", 0.0 if due == "retention" else 0.2)
    feed = Feed(broker, "some.feed")
    feed.records(random_rows(1000))
    service = PersistService(
        PersistSettings(
            broker=broker.url, prefix=broker.keys.prefix, data=str(tmp_path), history=False, nice=0, poll_ms=1,
            commit_ms=0 if due == "a commit" else 60_000, commit_records=1000, keep_gb=1.0,
        )
    )  # fmt: skip
    service.start()
    (one,) = service._feeds.values()
    one.retention = Retention(one.writer.path, keep_days=0.0, keep_bytes=10**9, every_s=0.0)
    assert one.writer.store is not None
    one.writer.store.db.executescript(COMMIT_FAILS)
    service.step()
    feed.records(random_rows(500, seed=9))
    for _ in range(1000):  # not `eventually`, which would take an assertion of the service for a no
        if not one.failure:
            service.step()
    assert "FOREIGN KEY" in one.failure
    with sqlite3.connect(store_path(tmp_path, "some.feed")) as db:
        db.execute("DROP TRIGGER late")

    def stored() -> bool:
        service.step()
        if not one.failure:
            service.drain()
        return feed.position(0) == "1-1501"

    eventually(stored, every_s=0.01)
    assert not one.failure
    service.close()
