"""A live feed goes past a persister that is slow or down: what was trimmed comes back from the journal, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from services.ingest import feedback
from services.ingest.feedback import READER, FeedBack, Owned
from services.ingest.router import split
from services.ingest.upkeep import Upkeep
from shared.broker import Broker
from shared.clock import SystemClock
from shared.errors import Fenced, Gap
from shared.records import Rows
from shared.wire.codec import InEntry, decode_in
from shared.wire.keys import parse_id, stream_id
from tests.integration.ingest.test_publisher import MAPPING, SHARDS, Writer, cut_tail, entries
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.sources import JournaledArray

DAY: dict[str, object] = {"type": "day", "date": "2026-11-25"}


class LiveFeed:
    """A publisher of a journaled source, its upkeep past the memory mark, and the feed-back, stepped by hand."""

    def __init__(self, broker_url: str, prefix: str, items: list[Rows | dict[str, object]]) -> None:
        self.broker = Broker(broker_url, prefix)
        self.source = JournaledArray(items)
        self.writer = Writer(broker_url, prefix, self.source).start()
        publisher, settings = self.writer.publisher, self.writer.publisher.settings
        self.back = FeedBack(Broker(broker_url, prefix), SystemClock(), settings, "test", self.source)
        self.back.close()  # the thread: the test calls `step`
        self.owned = Owned(publisher.lease.token, publisher.session, SHARDS, self.source.spec)
        self.back.owned = self.owned
        self.upkeep = Upkeep(self.broker, SystemClock(), settings, "test", self.back)

    def trim(self) -> None:
        """The books have all, persist not: trim as past the memory mark."""
        for shard in range(SHARDS):
            end = self.writer.publisher.last_ids[shard]
            self.broker.call("HSET", self.key(shard, "pos"), "book", end, "book_image_prev", end)
        self.upkeep._due.clear()
        self.upkeep._due.update(backlog=0.0, trim=0.0, memory=float("inf"))
        self.upkeep.memory_full = True
        self.upkeep.run(self.writer.publisher)

    def feed_back(self) -> None:
        while self.back.step(self.owned):
            pass

    def key(self, shard: int, name: str) -> str:
        return self.broker.keys.shard("test", shard, name)


class Persist:
    """Reads as persist does: `:in`, and `:back` where `:in` no longer goes on; what it has read is stored."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.at = [(0, 0)] * SHARDS
        self.items: list[list[InEntry]] = [[] for _ in range(SHARDS)]

    def read(self, limit: int | None = None) -> bool:
        """Up to `limit` entries of every shard; whether there were any."""
        found = False
        for shard in range(SHARDS):
            for _ in range(limit or 1_000_000):
                if not self._one(shard):
                    break
                found = True
            name = self.broker.keys.shard("test", shard, "pos")
            self.broker.call("HSET", name, READER, stream_id(*self.at[shard]))
        return found

    def _one(self, shard: int) -> bool:
        session, ordinal = self.at[shard]
        for name in ("in", "back"):
            key = self.broker.keys.shard("test", shard, name)
            rows = self.broker.call("XRANGE", key, f"({stream_id(session, ordinal)}", "+", "COUNT", 1)
            entry = decode_in(rows[0][1][1]) if rows else None
            if entry is not None and entry.first <= ordinal + 1:
                skip = ordinal + 1 - entry.first
                records = entry.records[skip:] if entry.records is not None else None
                self.items[shard].append(entry._replace(records=records))
                self.at[shard] = (parse_id(rows[0][0])[0], entry.last)
                return True
        return False

    def records(self, shard: int) -> bytes:
        rows = [entry.records for entry in self.items[shard] if entry.records is not None]
        return np.concatenate(rows).tobytes() if rows else b""

    def controls(self, shard: int) -> list[str]:
        return [str(entry.control["type"]) for entry in self.items[shard] if entry.control is not None]


@pytest.fixture
def sent() -> Rows:
    return random_rows(900, instruments=20)


@pytest.fixture
def feed(broker_url: str, prefix: str, sent: Rows) -> Iterator[LiveFeed]:
    live = LiveFeed(broker_url, prefix, [sent[:50], MAPPING, sent[50:400], DAY, sent[400:]])
    yield live
    live.broker.close()


def check_all_there(persist: Persist, sent: Rows) -> None:
    for shard, records in enumerate(split(sent, SHARDS)):
        assert persist.records(shard) == records.tobytes()
        assert persist.controls(shard).count("day") == 1
        assert persist.controls(shard)[0] == "begin"
    assert sum(persist.controls(shard).count("mapping") for shard in range(SHARDS)) == 1


@pytest.mark.parametrize("before", [0, 1, 2, 9, 30])
@pytest.mark.parametrize("between", [1, 5, 100])
def test_what_was_trimmed_past_persist_comes_back_once(
    feed: LiveFeed, broker: Broker, sent: Rows, before: int, between: int
) -> None:
    """Whatever persist had read before it went away, and however often the floor moves on while it is fed."""
    persist = Persist(broker)
    feed.writer.run(before)
    if before:
        persist.read(before)  # a few of them are left in `:in` alone
    feed.writer.run(20)
    feed.trim()
    feed.feed_back()
    while persist.read(between):
        feed.feed_back()
        if feed.source.has_more:
            feed.writer.run(5)
            feed.trim()
            feed.feed_back()
    check_all_there(persist, sent)


def test_the_books_are_trimmed_for_though_persist_is_away(feed: LiveFeed, broker: Broker) -> None:
    feed.writer.run(40)
    feed.trim()
    assert [len(entries(broker, shard)) for shard in range(SHARDS)] == [1] * SHARDS


def test_below_the_memory_mark_nothing_is_trimmed_past_persist(feed: LiveFeed, broker: Broker) -> None:
    feed.writer.run(40)
    held = [len(entries(broker, shard)) for shard in range(SHARDS)]
    feed.trim()
    feed.upkeep.memory_full = False
    feed.writer.run(10)
    assert all(len(entries(broker, shard)) > 1 for shard in range(SHARDS)), held


def test_feed_back_goes_ahead_of_persist_only_so_far(feed: LiveFeed, broker: Broker, sent: Rows) -> None:
    feed.back.window = 60
    persist = Persist(broker)
    feed.writer.run()
    feed.trim()
    for _ in range(5):
        feed.back.step(feed.owned)
    most = 60 + feed.writer.publisher.settings.entry_records * SHARDS
    assert 60 <= feed.back.ahead <= most
    assert feed.back.facts()["short"] > 0
    while persist.read(3):
        feed.feed_back()
        assert feed.back.ahead <= most
        assert sum(broker.call("XLEN", feed.key(shard, "back")) for shard in range(SHARDS)) <= most
    check_all_there(persist, sent)


def test_another_ingest_goes_on_with_the_feed_back(
    feed: LiveFeed, broker_url: str, prefix: str, broker: Broker, sent: Rows
) -> None:
    feed.back.window = 60
    persist = Persist(broker)
    feed.writer.run(30)
    feed.trim()
    feed.feed_back()
    heir = LiveFeed(broker_url, prefix, feed.source._items)
    persist.read(3)
    with pytest.raises(Fenced, match="refused"):
        feed.feed_back()  # the zombie's next append
    heir.writer.run()
    heir.trim()
    heir.feed_back()
    while persist.read(3):
        heir.feed_back()
    check_all_there(persist, sent)
    heir.broker.close()


def test_a_broker_that_lost_the_end_of_the_feed_back_gets_it_again(
    feed: LiveFeed, broker: Broker, sent: Rows
) -> None:
    persist = Persist(broker)
    feed.writer.run()
    feed.trim()
    feed.feed_back()
    for shard in range(SHARDS):
        cut_tail(broker, feed.key(shard, "back"), broker.call("XLEN", feed.key(shard, "back")) // 2)
    persist.read(2)
    feed.feed_back()
    while persist.read():
        feed.feed_back()
    check_all_there(persist, sent)


def test_a_journal_that_no_longer_has_it_says_so(feed: LiveFeed, broker: Broker) -> None:
    feed.writer.run(30)
    feed.trim()
    feed.source.kept = 1000
    with pytest.raises(Gap, match="no longer has position"):
        feed.feed_back()


def test_persist_that_kept_up_finds_nothing_in_the_feed_back(
    feed: LiveFeed, broker: Broker, sent: Rows
) -> None:
    persist = Persist(broker)
    while feed.source.has_more:
        feed.writer.run(10)
        persist.read()
        feed.trim()
        feed.feed_back()
    assert not any(broker.call("EXISTS", feed.key(shard, "back")) for shard in range(SHARDS))


def test_the_thread_does_it_by_itself(
    feed: LiveFeed, broker_url: str, prefix: str, broker: Broker, sent: Rows
) -> None:
    settings = feed.writer.publisher.settings
    thread = FeedBack(Broker(broker_url, prefix), SystemClock(), settings, "test", feed.source)
    try:
        persist = Persist(broker)
        feed.writer.run()
        feed.trim()
        thread.owned = feed.owned
        done: Callable[[], bool] = lambda: not persist.read() and len(persist.records(0)) > 0  # noqa: E731
        eventually(
            lambda: (
                done() and all(persist.records(s) == r.tobytes() for s, r in enumerate(split(sent, SHARDS)))
            )
        )
    finally:
        thread.close()
    check_all_there(persist, sent)


def test_the_window_is_a_small_part_of_a_small_broker(feed: LiveFeed) -> None:
    feed.back.fit(0)
    most = feed.back.window
    feed.back.fit(24 << 20)
    assert feed.back.window * 64 <= 0.05 * (24 << 20)
    feed.back.fit(8 << 30)
    assert feed.back.window == most


def test_the_thread_outlives_whatever_one_step_brings(
    broker_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the only one that can give persist back what was trimmed."""
    steps = 0

    def step(self: FeedBack, owned: Owned) -> bool:
        nonlocal steps
        steps += 1
        if steps == 1:
            raise KeyError("a fault of ours")
        return False

    monkeypatch.setattr(FeedBack, "step", step)
    monkeypatch.setattr(feedback, "RETRY_S", 0.01)
    live = Writer(broker_url, prefix, JournaledArray([]))
    settings = live.publisher.settings
    back = FeedBack(Broker(broker_url, prefix), SystemClock(), settings, "test", JournaledArray([]))
    back.owned = Owned("token", 1, SHARDS, {})
    eventually(lambda: steps > 1)
    back.close()
