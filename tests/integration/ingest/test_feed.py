"""A feed from its first record to `end`, whatever the sizes of chunks, entries and flushes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from services.ingest.feed import Feed
from services.ingest.settings import IngestSettings
from shared.broker import Broker
from shared.clock import SystemClock
from tests.integration.ingest.test_publisher import SHARDS, check_exactly_once
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.sources import ArraySource


@pytest.mark.parametrize("options", [{}, {"rate": 20_000.0}, {"speed": "1"}, {"floor_ms": 0.0}])
@pytest.mark.parametrize(("records", "entry_records"), [(0, 10), (1, 10), (200, 5), (200, 67), (400, 1000)])
def test_a_feed_ends_with_everything_sent(
    broker_url: str, prefix: str, broker: Broker, records: int, entry_records: int, options: dict[str, Any]
) -> None:
    sent = random_rows(records)
    settings = IngestSettings(
        broker=broker_url, prefix=prefix, shards=SHARDS, entry_records=entry_records, readers=(), **options
    )
    feed = Feed(ArraySource([sent]), "test", settings, SystemClock(), "me", None)

    def ended() -> bool:
        feed.step()
        return feed.has_ended

    eventually(ended, every_s=0)
    feed.release()
    feed.close()
    check_exactly_once(broker, sent)


def test_a_source_that_is_complete_adds_nothing_and_says_what_would(
    broker_url: str, prefix: str, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that was cut off and has been downloaded again is the same source to us."""
    sent = random_rows(1500)
    settings = IngestSettings(broker=broker_url, prefix=prefix, shards=SHARDS, readers=())
    for rows in (sent[:1200], sent):
        feed = Feed(ArraySource([rows]), "test", settings, SystemClock(), "me", None)
        eventually(lambda feed=feed: feed.step() >= 0 and feed.has_ended, every_s=0)  # type: ignore[misc]
        feed.release()
        feed.close()
    check_exactly_once(broker, sent[:1200])
    said = [line for line in capsys.readouterr().err.splitlines() if "nothing added" in line]
    assert len(said) == 1
    assert "--fresh" in said[0]


def test_a_replay_waits_for_its_slowest_reader(broker_url: str, prefix: str, broker: Broker) -> None:
    sent = random_rows(60_000)
    settings = IngestSettings(
        broker=broker_url,
        prefix=prefix,
        shards=SHARDS,
        entry_records=100,
        readers=("book",),
        max_backlog=1000,
    )
    feed = Feed(ArraySource([sent]), "test", settings, SystemClock(), "me", None)
    eventually(lambda: bool(feed.step() >= 0 and feed.upkeep.held_back()), every_s=0)
    assert feed.upkeep.held_back() == "backlog"
    sent_so_far = feed.publisher.position
    assert sent_so_far < len(sent)

    def taken() -> bool:
        keys = broker.keys
        for shard in range(SHARDS):
            tail = broker.last_ids([keys.shard("test", shard, "in")])[0]
            if tail:
                broker.call("HSET", keys.shard("test", shard, "pos"), "book", tail.id)
        feed.step()
        return feed.has_ended

    eventually(taken, every_s=0)
    feed.release()
    feed.close()
    check_exactly_once(broker, sent)


class FarSource(ArraySource):
    """Takes longer to reach its place than a lease lasts."""

    at_once = 0

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        self.at_once += 1
        assert self.at_once == 1, "one thread at a time"
        time.sleep(1.0)
        super().open(position, spec)
        self.at_once -= 1


def test_the_lease_is_kept_while_a_source_is_opened(broker_url: str, prefix: str, broker: Broker) -> None:
    sent = random_rows(400)
    settings = IngestSettings(broker=broker_url, prefix=prefix, shards=SHARDS, readers=(), lease_ms=300)
    feed = Feed(FarSource([sent]), "test", settings, SystemClock(), "me", None)
    other = Feed(FarSource([sent]), "test", settings, SystemClock(), "other", None)

    def ended() -> bool:
        other.step()
        feed.step()
        return feed.has_ended

    feed.step()
    eventually(ended, every_s=0.01)
    assert feed.publisher.lease.token.startswith("1:")
    assert other.state == "standby"
    feed.release()
    for each in (feed, other):
        each.close()
    check_exactly_once(broker, sent)


def test_a_feed_that_is_reset_while_its_source_is_opened_opens_it_again_afterwards(
    broker_url: str, prefix: str, broker: Broker
) -> None:
    sent = random_rows(400)
    settings = IngestSettings(broker=broker_url, prefix=prefix, shards=SHARDS, readers=())
    source = FarSource([sent])
    feed = Feed(source, "test", settings, SystemClock(), "me", None)
    feed.step()
    assert feed.state == "opening"
    feed.reset()

    def ended() -> bool:
        feed.step()
        return feed.has_ended

    eventually(ended, every_s=0.01)
    assert source.opened == [0, 0]
    feed.release()
    feed.close()
    check_exactly_once(broker, sent)
