"""Trimming: by MINID, exactly, at what every required reader and the older image have passed, never to nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from services.ingest.publisher import Publisher
from services.ingest.upkeep import Upkeep
from shared.broker import Broker
from shared.clock import SystemClock
from shared.records import Rows
from shared.wire.keys import parse_id
from tests.integration.ingest.test_publisher import SHARDS, Writer, check_exactly_once, entries
from tests.support.mbo import random_rows
from tests.support.sources import ArraySource

READERS = ("book", "persist", "book_image_prev")


def trim(broker: Broker, publisher: Publisher) -> None:
    Upkeep(broker, SystemClock(), publisher.settings, "test").run(publisher)


def say(broker: Broker, shard: int, **offsets: bytes | str) -> None:
    for name, offset in offsets.items():
        broker.call("HSET", broker.keys.shard("test", shard, "pos"), name, offset)


@pytest.fixture
def sent() -> Rows:
    return random_rows(200)


def test_nothing_is_trimmed_while_a_required_reader_or_the_older_image_is_missing(
    broker_url: str, prefix: str, broker: Broker, sent: Rows
) -> None:
    writer = Writer(broker_url, prefix, ArraySource([sent])).start()
    writer.run()
    for without in READERS:
        for shard in range(SHARDS):
            broker.call("DEL", broker.keys.shard("test", shard, "pos"))
            end = writer.publisher.last_ids[shard]
            say(broker, shard, **{name: end for name in READERS if name != without})
        trim(broker, writer.publisher)
        check_exactly_once(broker, sent)


def test_what_the_slowest_has_passed_is_trimmed_and_not_an_entry_more(
    broker_url: str, prefix: str, broker: Broker, sent: Rows
) -> None:
    writer = Writer(broker_url, prefix, ArraySource([sent])).start()
    writer.run()
    before = {shard: entries(broker, shard) for shard in range(SHARDS)}
    for shard, rows in before.items():
        end, middle = rows[-1][0], rows[len(rows) // 2][0]
        say(broker, shard, book=end, persist=middle, book_image_prev=rows[-2][0])
    trim(broker, writer.publisher)
    for shard, rows in before.items():
        assert [row[0] for row in entries(broker, shard)] == [row[0] for row in rows[len(rows) // 2 + 1 :]]


def test_a_stream_that_everybody_has_read_keeps_its_last_entry_to_go_on_from(
    broker_url: str, prefix: str, broker: Broker, sent: Rows
) -> None:
    """The last entry is where ingest reads its position from: without it the next append could not follow it."""
    writer = Writer(broker_url, prefix, ArraySource([sent])).start()
    writer.run(9)
    for shard in range(SHARDS):
        say(broker, shard, **dict.fromkeys(READERS, writer.publisher.last_ids[shard]))
    trim(broker, writer.publisher)
    assert [len(entries(broker, shard)) for shard in range(SHARDS)] == [1] * SHARDS
    ends = [parse_id(writer.publisher.last_ids[shard])[1] for shard in range(SHARDS)]
    writer.run(1)  # the same process goes on
    Writer(broker_url, prefix, ArraySource([sent])).start().run()  # and another after it
    for shard, end in enumerate(ends):
        ordinals = [(entry.first, entry.last) for _, entry in entries(broker, shard)]
        assert ordinals[0][1] == end
        assert all(after[0] == before[1] + 1 for before, after in pairwise(ordinals))
    assert sum(entry.n for shard in range(SHARDS) for _, entry in entries(broker, shard)) + sum(ends) == (
        len(sent) + 2 * SHARDS + sum(entries(broker, shard)[0][1].n for shard in range(SHARDS))
    )
