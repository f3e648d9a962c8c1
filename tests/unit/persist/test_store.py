"""The file: its schema, its lock, and what its errors mean to an operator."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from services.persist import catalog, reader
from services.persist import store as module
from services.persist.store import Store, migrate, open_reader, steps, store_error, store_path
from shared.errors import StoreError
from shared.records import TRADE


def test_schema_files_are_numbered_without_gaps() -> None:
    assert [number for number, _, _ in steps()] == list(range(1, len(steps()) + 1))


def test_a_new_store_has_every_schema_step_and_a_second_opening_adds_none(tmp_path: Path) -> None:
    for _ in range(2):
        store = Store(store_path(tmp_path, "f"))
        assert [row[0] for row in store.db.execute("SELECT number FROM migration ORDER BY 1")] == [
            n for n, _, _ in steps()
        ]
        assert migrate(store.db) == []
        store.close()


def test_a_failing_schema_step_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(store_path(tmp_path, "f"))
    bad = (99, "bad", "CREATE TABLE half (x INTEGER) STRICT; CREATE TABLE run (x INTEGER) STRICT;")
    monkeypatch.setattr(module, "steps", lambda: [*steps(), bad])
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(store.db)
    assert store.db.execute("SELECT count(*) FROM sqlite_schema WHERE name='half'").fetchone() == (0,)
    assert store.db.execute("SELECT count(*) FROM migration WHERE number=99").fetchone() == (0,)
    store.close()


def test_a_later_step_is_applied_to_an_older_file_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(store_path(tmp_path, "f"))
    store.db.execute("INSERT INTO run VALUES (1, 1, 1, 'D', 'raw', 'i', '{}', 5, 0)")
    store.close()
    later = (len(steps()) + 1, "later", "ALTER TABLE run ADD COLUMN note TEXT NOT NULL DEFAULT 'old';")
    known = [*steps(), later]
    monkeypatch.setattr(module, "steps", lambda: known)
    store = Store(store_path(tmp_path, "f"))
    assert store.db.execute("SELECT run, note FROM run").fetchall() == [(1, "old")]
    store.close()


def test_trades_of_an_older_file_get_their_keys_and_its_activity_stays_by_the_minute(tmp_path: Path) -> None:
    path = store_path(tmp_path, "f")
    path.parent.mkdir()
    db = sqlite3.connect(path, isolation_level=None)
    migrate(db, upto=1)
    rows = [
        (run, instrument, ordinal, ordinal + 2, 10, 2**63 - 1, 5, 3, 9, 1, 66, 128)
        for run in (1, 2) for instrument in (7, 8) for ordinal in (4, 2**39)
    ]  # fmt: skip
    db.executemany("INSERT INTO trade VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
    db.execute("INSERT INTO activity VALUES (1, 0, 0, 600, 8)")
    db.close()
    db = open_reader(path)  # whoever reads it first brings it up to date
    found = db.execute(
        "SELECT run, instrument_id, ordinal, side, price FROM trades ORDER BY 1, 2, 3"
    ).fetchall()
    assert found == [(row[0], row[1], row[2], "B", 5e-9) for row in rows]
    stored = b"".join(reader.trades(db, 2, 8, first=5))
    assert np.frombuffer(stored, TRADE).tolist() == [
        (2**39, 2**39 + 2, 10, 2**64 - 1, 5, 3, 8, 9, 1, 66, 128)
    ]
    assert catalog.activity(db, 1, 0, 60 * 10**9, 60, None)["records"] == [10] * 60
    db.close()


def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    store = Store(store_path(tmp_path, "f"))
    store.db.execute("INSERT INTO migration VALUES (999, 'future', 'now')")
    store.close()
    with pytest.raises(StoreError, match="upgrade"):
        Store(store_path(tmp_path, "f"))


def test_the_writer_syncs_every_commit_and_a_reader_cannot_write(tmp_path: Path) -> None:
    store = Store(store_path(tmp_path, "f"))
    assert store.db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    reader = open_reader(store_path(tmp_path, "f"))
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM run")
    reader.close()
    store.close()


def test_a_damaged_file_says_so_and_lets_go_of_the_lock(tmp_path: Path) -> None:
    path = store_path(tmp_path, "f")
    path.parent.mkdir()
    path.write_bytes(b"this is not a database" * 500)
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged") as caught:
            Store(path)
        assert caught.value.facts["why"] == "corrupt"


def test_a_missing_store_names_the_setting_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="--data"):
        open_reader(store_path(tmp_path, "f"))


def test_a_full_disk_is_told_from_other_failures() -> None:
    full = store_error(Path("x"), sqlite3.OperationalError("database or disk is full"))
    assert (full.facts["why"], "make room" in str(full)) == ("full", True)
    assert store_error(Path("x"), sqlite3.OperationalError("disk I/O error")).facts["why"] == "disk"
