"""The guide's backup and restore (docs/operations.md): copied while it records, put back, and recording goes on."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

from services.persist.local import LocalHistory
from services.persist.store import store_path
from shared.broker import Broker
from tests.integration.persist.test_service import persist
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.recording import Feed, assert_stored

RECORDS = 20_000


def test_a_backup_made_while_it_records_is_whole_and_recording_goes_on_from_it(
    broker: Broker, tmp_path: Path
) -> None:
    feed, rows = Feed(broker, "some.feed", shards=2), random_rows(3 * RECORDS)
    live, copy = store_path(tmp_path, "some.feed"), tmp_path / "backup.sqlite"
    with persist(broker, tmp_path, "--no-history", "--commit-records", "500") as process:
        feed.records(rows[:RECORDS])
        eventually(lambda: feed.position(0) is not None, timeout_s=150)  # it is in the middle of it
        with sqlite3.connect(live) as db:
            db.execute("VACUUM INTO ?", (str(copy),))
        feed.records(rows[RECORDS : 2 * RECORDS])
        eventually(lambda: _stored_all(feed), timeout_s=150)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    for path in live.parent.glob(f"{live.name}*"):  # the disk is gone, with -wal and -shm
        path.unlink()
    copy.rename(live)
    feed.records(rows[2 * RECORDS :])
    with persist(broker, tmp_path, "--no-history") as process:
        # What the broker was told before is ahead of the file: only the file counts.
        eventually(lambda: _in_file(live, feed), timeout_s=150)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert_stored(LocalHistory(tmp_path), feed)


def _stored_all(feed: Feed) -> bool:
    return all(feed.position(shard) == f"1-{feed.last[shard]}" for shard in range(feed.shards))


def _in_file(path: Path, feed: Feed) -> bool:
    """Whether the file itself says that it holds everything."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT shard, ordinal FROM offset WHERE run = 1").fetchall()
    return dict(rows) == dict(enumerate(feed.last))
