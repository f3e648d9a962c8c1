"""Ingest on a real broker: exactly once through restarts, lost tails, zombies and another writer."""

from __future__ import annotations

import pytest

from services.ingest.lease import Waiting
from services.ingest.publisher import Publisher
from services.ingest.router import split
from services.ingest.settings import IngestSettings
from services.ingest.sources.base import EndOfSource
from shared.broker import Broker
from shared.clock import SystemClock
from shared.errors import Diverged, Fenced, UsageError
from shared.records import Rows
from shared.wire.codec import InEntry, decode_in
from shared.wire.keys import parse_id
from tests.support.mbo import random_rows
from tests.support.sources import ArraySource

SHARDS = 3
MAPPING = {"type": "mapping", "instrument_id": 3, "symbol": "ABC", "start": None, "end": None}


class Writer:
    """A publisher driven by hand, a few records a flush."""

    def __init__(
        self, broker_url: str, prefix: str, source: ArraySource, owner: str = "me", **options: object
    ) -> None:
        fixed = {
            "broker": broker_url,
            "prefix": prefix,
            "shards": SHARDS,
            "lease_ms": 60_000,
            "entry_records": 7,
        }
        settings = IngestSettings(**{**fixed, **options})  # type: ignore[arg-type]
        data, control = Broker(broker_url, prefix), Broker(broker_url, prefix)
        self.source = source
        self.publisher = Publisher(data, control, SystemClock(), settings, settings.feed or "test", owner)

    def start(self) -> Writer:
        self.publisher.lease.take()
        resume = self.publisher.start(self.source)
        self.source.open(resume.position, resume.spec)
        return self

    def flush(self, count: int) -> None:
        chunk = self.source.read(count, 0)
        assert chunk is not None
        self.publisher.add(chunk, 1)
        self.publisher.flush()
        self.publisher.finish()

    def run(self, flushes: int | None = None) -> None:
        try:
            while flushes is None or flushes > 0:
                self.flush(13)
                flushes = None if flushes is None else flushes - 1
        except EndOfSource:
            self.publisher.end("source ended")


def entries(broker: Broker, shard: int) -> list[tuple[bytes, InEntry]]:
    reply = broker.call("XRANGE", broker.keys.shard("test", shard, "in"), "-", "+")
    return [(row[0], decode_in(row[1][1])) for row in reply]


def cut_tail(broker: Broker, stream: str, count: int) -> None:
    """What a broker does that comes back without its last AOF bytes: the stream ends earlier, and nothing tells."""
    rows = broker.call("XRANGE", stream, "-", "+")
    left = rows[: len(rows) - count]
    broker.call("DEL", stream)
    for entry_id, fields in left:
        broker.call("XADD", stream, entry_id, *fields)
    writer = stream.rpartition(":")[0] + ":writer"  # the same script wrote it: it goes with the entry
    broker.call("HSET", writer, stream, left[-1][0] if left else "0-0")


def check_exactly_once(broker: Broker, sent: Rows) -> None:
    """In the newest session every shard's ordinals are contiguous, its records the source's, byte for byte."""
    found = 0
    for shard in range(SHARDS):
        at = last = 0
        records: list[bytes] = []
        kinds: list[str] = []
        for entry_id, entry in entries(broker, shard):
            session, ordinal = parse_id(entry_id)
            assert ordinal == entry.last
            if session != at:  # the feed's node lost its metadata: a session from the source's beginning
                at, last, records, kinds = session, 0, [], []
            assert entry.first == last + 1
            last = entry.last
            if entry.records is not None:
                records.append(entry.records.tobytes())
            else:
                kinds.append(entry.control["type"])  # type: ignore[index]
        assert b"".join(records) == split(sent, SHARDS)[shard].tobytes()
        assert kinds[0] == "begin"
        assert kinds[-1] == "end"
        assert kinds.count("begin") == kinds.count("end") == 1
        found += sum(len(r) for r in records) // 56
    assert found == len(sent)


@pytest.fixture
def sent() -> Rows:
    return random_rows(200)


@pytest.fixture
def source(sent: Rows) -> ArraySource:
    return ArraySource([sent[:50], MAPPING, sent[50:]])


def test_a_source_arrives_once(
    broker_url: str, prefix: str, broker: Broker, source: ArraySource, sent: Rows
) -> None:
    Writer(broker_url, prefix, source).start().run()
    check_exactly_once(broker, sent)
    assert b"ABC" in broker.call("HGET", broker.keys.feed("test", "instruments"), 3)


def test_a_complete_source_adds_nothing(
    broker_url: str, prefix: str, broker: Broker, source: ArraySource, sent: Rows
) -> None:
    Writer(broker_url, prefix, source).start().run()
    again = Writer(broker_url, prefix, source)
    again.publisher.lease.take()
    assert again.publisher.start(source).is_complete
    again.publisher.end("source ended")
    check_exactly_once(broker, sent)


@pytest.mark.parametrize("flushes", [0, 1, 3, 4, 5, 9])
def test_a_restart_goes_on_where_each_shard_is(
    broker_url: str, prefix: str, broker: Broker, source: ArraySource, sent: Rows, flushes: int
) -> None:
    Writer(broker_url, prefix, source).start().run(flushes)
    Writer(broker_url, prefix, source).start().run()
    check_exactly_once(broker, sent)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_broker_that_lost_its_tail_gets_it_again(
    broker_url: str, prefix: str, broker: Broker, source: ArraySource, sent: Rows, cut: int
) -> None:
    """Each shard loses another number of entries, as a cluster does; the checkpoint may be ahead of all."""
    writer = Writer(broker_url, prefix, source).start()
    writer.run(9)
    for shard in range(SHARDS):
        cut_tail(broker, broker.keys.shard("test", shard, "in"), cut * shard)
    with pytest.raises(Diverged):
        writer.run()
    Writer(broker_url, prefix, source).start().run()
    check_exactly_once(broker, sent)


def test_a_zombie_is_refused_at_its_next_append(
    broker_url: str, prefix: str, broker: Broker, source: ArraySource, sent: Rows
) -> None:
    zombie = Writer(broker_url, prefix, ArraySource([sent]), owner="same").start()
    zombie.run(2)
    heir = Writer(broker_url, prefix, ArraySource([sent]), owner="same").start()
    with pytest.raises(Fenced):
        zombie.flush(13)
    with pytest.raises(Fenced):
        zombie.publisher.lease.renew()
    heir.run()
    check_exactly_once(broker, sent)


def test_a_second_ingest_stands_by(broker_url: str, prefix: str, source: ArraySource) -> None:
    first = Writer(broker_url, prefix, source, owner="first").start()
    second = Writer(broker_url, prefix, source, owner="second")
    with pytest.raises(Waiting, match="first"):
        second.publisher.lease.take()
    first.publisher.lease.release()
    second.publisher.lease.take()


def test_a_lost_reply_is_harmless(
    broker_url: str,
    prefix: str,
    broker: Broker,
    source: ArraySource,
    sent: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = Writer(broker_url, prefix, source).start()
    writer.run(2)
    chunk = source.read(13, 0)
    assert chunk is not None
    writer.publisher.add(chunk, 1)
    writer.publisher.flush()
    writer.publisher.broker.close()  # the broker has it, the reply is lost
    Writer(broker_url, prefix, source).start().run()
    check_exactly_once(broker, sent)


def test_another_source_begins_another_session(
    broker_url: str, prefix: str, broker: Broker, sent: Rows
) -> None:
    Writer(broker_url, prefix, ArraySource([sent], identity="a")).start().run()
    Writer(broker_url, prefix, ArraySource([sent], identity="b")).start().run()
    sessions = {parse_id(entry_id)[0] for entry_id, _ in entries(broker, 0)}
    assert sessions == {1, 2}


@pytest.mark.parametrize("kept", [{}, {"session": "1", "identity": "a"}])
@pytest.mark.parametrize("identity", ["a", "b", "c"])
def test_a_feed_whose_metadata_is_behind_its_shards_begins_a_new_session(
    broker_url: str, prefix: str, broker: Broker, sent: Rows, kept: dict[str, str], identity: str
) -> None:
    """The node of the feed's keys lost its tail, or all: nobody can tell whose session the shards are in."""
    Writer(broker_url, prefix, ArraySource([sent], identity="a")).start().run()
    Writer(broker_url, prefix, ArraySource([sent], identity="b")).start().run(5)
    meta = broker.keys.feed("test", "meta")
    before = broker.hash(meta)
    broker.call("DEL", meta)
    for name, value in ({**before, **kept} if kept else {}).items():
        broker.call("HSET", meta, name, value)
    Writer(broker_url, prefix, ArraySource([sent], identity=identity)).start().run()
    for shard, records in enumerate(split(sent, SHARDS)):
        third = [entry for entry_id, entry in entries(broker, shard) if parse_id(entry_id)[0] == 3]
        assert (third[0].first, third[-1].last) == (1, len(records) + 2)


@pytest.mark.parametrize(("name", "value"), [("shards", 5), ("policy", "raw")])
def test_other_settings_than_the_feed_was_made_with_are_refused(
    broker_url: str, prefix: str, source: ArraySource, name: str, value: object
) -> None:
    Writer(broker_url, prefix, source).start().run(1)
    other = Writer(broker_url, prefix, source)
    settings = IngestSettings(broker=broker_url, prefix=prefix, **{"shards": SHARDS, name: value})  # type: ignore[arg-type]
    other.publisher.settings = settings
    other.publisher.lease.take()
    with pytest.raises(UsageError, match=f"--{name}"):
        other.publisher.start(source)


def test_the_checkpoint_of_a_zombie_is_not_believed(
    broker_url: str, prefix: str, broker: Broker, sent: Rows
) -> None:
    """Its positions may be those of another journal: an item more or less, and records would be left out."""
    zombie = Writer(broker_url, prefix, ArraySource([sent]), owner="zombie").start()
    zombie.run(2)
    broker.call("HSET", broker.keys.feed("test", "lease"), "until", 0)
    own = ArraySource([sent[:26], {"type": "gap", "reason": "test"}, sent[26:]])
    Writer(broker_url, prefix, own, owner="heir").start().flush(1)
    zombie.publisher._checkpoint_at = 0.0
    with pytest.raises(Fenced):
        zombie.flush(2)
    Writer(broker_url, prefix, own, owner="heir").start().run()
    for shard, records in enumerate(split(sent, SHARDS)):
        there = [entry.records.tobytes() for _, entry in entries(broker, shard) if entry.records is not None]
        assert b"".join(there) == records.tobytes()
