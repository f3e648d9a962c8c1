"""Killed at any moment, or without power in the middle of a write: nothing lost, nothing twice, the file whole."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from services.persist.local import LocalHistory
from services.persist.store import open_reader, store_path
from shared.broker import Broker
from shared.wire.keys import parse_id
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.recording import Feed, assert_stored, drain, finishes, flatten, writer

SECTOR = 512  # what a disk writes whole


def _process(broker_url: str, prefix: str, data: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "services.persist", "--broker", broker_url, "--prefix", prefix, "--data", str(data),
        "--commit-ms", "1", "--commit-records", "2000", "--image-records", "3000", "--no-history", "--nice", "0",
    ]  # fmt: skip
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MBO_")}
    return subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)


def _kill_under_load(kills: int, broker: Broker, broker_url: str, prefix: str, data: Path) -> None:
    per_kill = 30_000
    rows = random_rows(per_kill * (kills + 1), instruments=30)
    rows["action"][::11] = ord("T")
    feed = Feed(broker, shards=2)
    draw = random.Random(50)
    for kill in range(kills + 1):
        feed.records(rows[kill * per_kill : (kill + 1) * per_kill])
        process = _process(broker_url, prefix, data)
        try:
            if kill < kills:
                target = sum(feed.last) - draw.randint(1, per_kill - 1)
                eventually(partial(_has_stored, feed, target), every_s=0.001, timeout_s=150)
                process.send_signal(signal.SIGKILL)
                process.wait()
            else:
                eventually(lambda: _stored(feed) == sum(feed.last), timeout_s=150)
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    assert_stored(LocalHistory(data), feed)
    db = sqlite3.connect(store_path(data, "feed"))
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("SELECT count(*) FROM trade").fetchone()[0] > 0
    counted = db.execute("SELECT sum(records), sum(trades) FROM activity").fetchone()
    assert counted == (len(rows), int((rows["action"] == ord("T")).sum()))
    db.close()


def _stored(feed: Feed) -> int:
    return sum(parse_id(position)[1] for shard in range(feed.shards) if (position := feed.position(shard)))


def _has_stored(feed: Feed, count: int) -> bool:
    return _stored(feed) >= count


def test_three_kills_under_load_lose_and_double_nothing(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    _kill_under_load(3, broker, broker_url, prefix, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_under_load_lose_and_double_nothing(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    _kill_under_load(50, broker, broker_url, prefix, tmp_path)


class Disk:
    """Copies of the store's two files as they were synced, and what a power loss between two of them can leave."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path, self._random = path, random.Random(seed)

    def copy(self) -> tuple[bytes, bytes]:
        """(database, log): call only when everything written has been synced."""
        wal = self._path.with_name(self._path.name + "-wal")
        return self._path.read_bytes(), wal.read_bytes() if wal.exists() else b""

    def torn(self, old: bytes, new: bytes) -> bytes:
        """The new bytes sector by sector, each written or not; the file's length anywhere between."""
        size = self._random.randint(min(len(old), len(new)), max(len(old), len(new)))
        out = bytearray(old[:size].ljust(size, b"\0"))
        for at in range(0, size, SECTOR):
            if self._random.random() < 0.5:
                out[at : at + SECTOR] = new[at : at + SECTOR].ljust(min(SECTOR, size - at), b"\0")
        return bytes(out)

    def lay(self, data: Path, database: bytes, log: bytes) -> Path:
        """A data directory as the machine finds it after the power is back."""
        path = store_path(data, "feed")
        path.parent.mkdir(parents=True)
        path.write_bytes(database)
        path.with_name(path.name + "-wal").write_bytes(log)
        return data


def _survives(data: Path, feed: Feed, known: list[int]) -> None:
    """The file is whole and holds everything up to one of the committed offsets, and nothing else."""
    db = open_reader(store_path(data, "feed"))
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    offset = db.execute("SELECT ordinal FROM offset").fetchone()[0]
    db.close()
    assert offset in known
    rows, _ = flatten(list(LocalHistory(data).entries("feed", 1, 0)))
    assert rows.tobytes() == feed.of_shard(0)[: offset - 1].tobytes()


def _recovers(broker_url: str, prefix: str, data: Path, feed: Feed) -> None:
    finishes(writer(broker_url, prefix, data, block_rows=400), data, feed)


def test_a_commit_torn_by_a_power_loss_is_there_whole_or_not_at_all(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = Feed(broker)
    rows = random_rows(4000, instruments=5)
    recorder = writer(broker_url, prefix, tmp_path / "real", block_rows=400, image_records=500)
    recorder.open()
    assert recorder.store is not None
    recorder.store.db.execute(
        "PRAGMA wal_autocheckpoint=0"
    )  # so that only the log is written between two copies
    disk = Disk(store_path(tmp_path / "real", "feed"), 7)
    synced: list[tuple[tuple[bytes, bytes], int]] = []
    for at in np.linspace(0, 4000, 14).astype(int).tolist():
        feed.records(rows[sum(len(part) for part in feed.rows[0]) : at])
        drain(recorder)
        synced.append((disk.copy(), feed.last[0]))
    recorder.close()
    for index, ((before, known), (after, later)) in enumerate(pairwise(synced)):
        log = before[1] + disk.torn(b"", after[1][len(before[1]) :])
        data = disk.lay(tmp_path / f"torn{index}", before[0], log)
        _survives(data, feed, [known, later])
        _recovers(broker_url, prefix, data, feed)


def test_a_checkpoint_torn_by_a_power_loss_loses_nothing(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = Feed(broker)
    rows = random_rows(4000, instruments=5)
    recorder = writer(broker_url, prefix, tmp_path / "real", block_rows=400)
    recorder.open()
    assert recorder.store is not None
    recorder.store.db.execute("PRAGMA wal_autocheckpoint=0")
    disk = Disk(store_path(tmp_path / "real", "feed"), 8)
    for index in range(4):
        feed.records(rows[index * 1000 : (index + 1) * 1000])
        drain(recorder)
        before = disk.copy()
        recorder.store.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        after = disk.copy()
        for turn in range(3):
            data = disk.lay(tmp_path / f"torn{index}.{turn}", disk.torn(before[0], after[0]), before[1])
            _survives(data, feed, [feed.last[0]])
        _recovers(broker_url, prefix, data, feed)
    recorder.close()
