"""A feed as ingest would write it, for tests of persist: entries on a real broker, and what was put there."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from services.persist.local import LocalHistory
from services.persist.recorder import Cadence
from services.persist.store import store_path
from services.persist.writer import FeedWriter
from shared.broker import Broker
from shared.clock import Clock, SystemClock
from shared.dbn import Reader
from shared.history import History
from shared.records import MBO, Rows
from shared.wire.codec import InEntry, encode_control, encode_records
from shared.wire.keys import shard_of, stream_id


def load(path: Path) -> tuple[Rows, dict[int, str]]:
    """(all MBO records of a DBN file, symbols by instrument id)."""
    with Reader(path) as reader:
        rows = [part.records.copy() for part in reader.parts() if part.records is not None]
        symbols = {one.instrument_id: one.symbol for one in reader.metadata.instruments()}
    return np.concatenate(rows).view(MBO), symbols


# A transaction is good up to its very end: DROP TRIGGER late mends it.
COMMIT_FAILS = """
    PRAGMA foreign_keys=1;
    CREATE TABLE one (id INTEGER PRIMARY KEY);
    CREATE TABLE two (id REFERENCES one DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER late AFTER INSERT ON offset BEGIN INSERT INTO two VALUES (1); END;
"""


class Feed:
    """Writes one feed's streams and remembers every ordinal of every shard."""

    def __init__(
        self, broker: Broker, name: str = "feed", *, shards: int = 1, session: int = 1, policy: str = "raw",
        dataset: str = "TEST.MBO", identity: str = "ident", began: int = 77, seed: int = 1,
        kind: str = "test",
    ) -> None:  # fmt: skip
        self.broker, self.name, self.shards, self.session = broker, name, shards, session
        self.random = random.Random(seed)
        self.rows: list[list[Rows]] = [[] for _ in range(shards)]
        self.controls: list[dict[int, dict[str, Any]]] = [{} for _ in range(shards)]
        self.last = [0] * shards
        keys = broker.keys
        meta = {
            "shards": shards,
            "session": session,
            "policy": policy,
            "dataset": dataset,
            "identity": identity,
            "state": "open",
        }
        broker.pipe([
            ("HSET", keys.feed(name, "meta"), *(part for item in meta.items() for part in item)),
            ("SADD", keys.feeds, name),
        ])  # fmt: skip
        self.begin = {
            "type": "begin", "session": session, "dataset": dataset, "policy": policy, "identity": identity,
            "spec": {"kind": kind}, "ts": began, "repaired": False,
        }  # fmt: skip
        for shard in range(shards):
            self.control(shard, self.begin)

    def stream(self, shard: int, name: str = "in") -> str:
        return self.broker.keys.shard(self.name, shard, name)

    def put(self, shard: int, last: int, blob: bytes, name: str = "in") -> None:
        self.broker.call("XADD", self.stream(shard, name), stream_id(self.session, last), "d", blob)

    def control(self, shard: int, body: dict[str, Any]) -> None:
        self.last[shard] += 1
        self.controls[shard][self.last[shard]] = body
        self.put(shard, self.last[shard], encode_control(body, self.last[shard], 0, 0, 0))

    def mapping(self, instrument_id: int, symbol: str) -> None:
        body = {
            "type": "mapping",
            "instrument_id": instrument_id,
            "symbol": symbol,
            "start": None,
            "end": None,
        }
        self.control(shard_of(instrument_id, self.shards), body)

    def records(self, rows: Rows, *, most: int = 1000) -> None:
        """Put records into their shards, in entries of random sizes."""
        where = np.array([shard_of(int(i), self.shards) for i in rows["instrument_id"]])
        for shard in range(self.shards):
            mine = np.ascontiguousarray(rows[where == shard])
            at = 0
            while at < len(mine):
                part = np.ascontiguousarray(mine[at : at + self.random.randint(1, most)])
                self.entry(shard, part)
                at += len(part)

    def entry(self, shard: int, rows: Rows) -> None:
        first = self.last[shard] + 1
        self.rows[shard].append(rows)
        self.last[shard] += len(rows)
        self.put(shard, self.last[shard], encode_records(rows, first, 0, 0, 0))

    def end(self) -> None:
        for shard in range(self.shards):
            self.control(shard, {"type": "end", "reason": "source ended"})

    def of_shard(self, shard: int) -> Rows:
        return np.concatenate([np.empty(0, MBO), *self.rows[shard]])

    def position(self, shard: int) -> str | None:
        reply = self.broker.call("HGET", self.stream(shard, "pos"), "persist")
        return None if reply is None else reply.decode()


def writer(
    broker_url: str,
    prefix: str,
    data: Path,
    name: str = "feed",
    *,
    clock: Clock | None = None,
    **cadence: int,
) -> FeedWriter:
    """A writer with a connection of its own."""
    return FeedWriter(
        Broker(broker_url, prefix, name="persist"), name, store_path(data, name), clock or SystemClock(),
        cadence=Cadence(**cadence),
    )  # fmt: skip


def drain(writer: FeedWriter, *, commit_every: int = 1) -> None:
    """Read and store until nothing is new."""
    passes = 0
    while writer.poll():
        passes += 1
        if passes % commit_every == 0:
            writer.commit()
            writer.settle()
    writer.commit()
    writer.settle()


def finishes(writer: FeedWriter, data: Path, feed: Feed) -> None:
    """Opened anew it goes on where the file is, and at the end everything is stored."""
    writer.close()
    writer.open()
    drain(writer)
    writer.close()
    assert_stored(LocalHistory(data), feed)


def flatten(entries: list[InEntry]) -> tuple[Rows, dict[int, dict[str, Any]]]:
    """(all records, controls by ordinal) of contiguous entries; checks that they are contiguous from 1."""
    at = 1
    controls = {}
    parts = [np.empty(0, MBO)]
    for entry in entries:
        assert entry.first == at
        at = entry.last + 1
        if entry.records is not None:
            parts.append(entry.records)
        else:
            assert entry.control is not None
            controls[entry.last] = dict(entry.control)
    return np.concatenate(parts), controls


def assert_stored(history: History, feed: Feed, run: int = 1) -> None:
    """The store holds exactly what was put: every record and control of every shard at its ordinal."""
    for shard in range(feed.shards):
        rows, controls = flatten(list(history.entries(feed.name, run, shard)))
        assert rows.tobytes() == feed.of_shard(shard).tobytes()
        assert controls == feed.controls[shard]
