"""A feed from its first record to `end`, whatever the sizes of chunks, entries and flushes."""

from __future__ import annotations

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
    broker_url: str, prefix: str, broker: Broker, records: int, entry_records: int, options: dict[str, object]
) -> None:
    sent = random_rows(records)
    settings = IngestSettings(
        broker=broker_url, prefix=prefix, shards=SHARDS, entry_records=entry_records, readers=(), **options
    )  # type: ignore[arg-type]
    feed = Feed(ArraySource([sent]), "test", settings, SystemClock(), "me", None)

    def ended() -> bool:
        feed.step()
        return feed.has_ended

    eventually(ended, every_s=0)
    feed.release()
    feed.close()
    check_exactly_once(broker, sent)


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
