"""What `mbo status` and the page say of a pipeline, read from the broker."""

from __future__ import annotations

import time
from typing import Any

from shared.broker import Broker, fullest
from shared.pipeline import overview
from tests.support.feed import Feed
from tests.support.mbo import record, rows

OLD_S, NEW_S = 100.0, 5.0


class Ago(Feed):
    """A feed whose entries were taken `ago_s` ago."""

    ago_s = OLD_S

    def now(self) -> int:  # type: ignore[override]
        return time.time_ns() - int(self.ago_s * 1e9)


def looked_at(broker: Broker) -> dict[str, Any]:
    (feed,) = overview(broker)["feeds"]
    (shard,) = feed["shards"]
    return dict(shard)


def test_lag_in_seconds_is_the_age_of_the_oldest_record_not_committed(broker: Broker) -> None:
    """A reader that has stopped is as late as what it did not take, however new the newest entry is."""
    feed = Ago(broker)
    pos = broker.keys.shard(feed.name, 0, "pos")
    feed.records(rows(record("A"), record("A", order_id=2)))
    taken = feed.ordinals[0]
    feed.ago_s = NEW_S
    feed.records(rows(record("A", order_id=3)))
    assert round(looked_at(broker)["lag_s"]) == OLD_S, "no reader has committed anything"
    broker.call("HSET", pos, "book", f"1-{taken - 1}")
    assert round(looked_at(broker)["lag_s"]) == OLD_S, "half of an entry"
    broker.call("HSET", pos, "book", f"1-{taken}")
    shard = looked_at(broker)
    assert (round(shard["lag_s"]), shard["readers"]["book"]["lag"]) == (NEW_S, 1)
    broker.call("HSET", pos, "book", f"1-{taken + 1}")
    shard = looked_at(broker)
    assert (shard["lag_s"], shard["readers"]["book"]["lag"]) == (0.0, 0)


def test_what_was_trimmed_unread_is_not_older_than_what_is_left(broker: Broker) -> None:
    feed = Ago(broker)
    feed.records(rows(record("A")))
    feed.ago_s = NEW_S
    feed.records(rows(record("A", order_id=2)))
    feed.trim("in", feed.ordinals[0])
    assert round(looked_at(broker)["lag_s"]) == NEW_S


def test_memory_is_that_of_the_node_that_is_full_first() -> None:
    nodes = [(900, 0), (500, 1000), (80, 100), (700, 1000)]
    said = [{"used_memory": str(used), "maxmemory": str(limit)} for used, limit in nodes]
    assert fullest(said) == (80, 100)
    assert fullest(said[:1]) == (900, 0)
