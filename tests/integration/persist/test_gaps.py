"""What `:in` no longer has comes from the journal's feed-back, or is recorded as a gap: never jumped over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.ingest.router import split
from services.persist.local import LocalHistory
from shared.broker import Broker, Entry
from shared.clock import ManualClock
from shared.errors import WireError
from shared.wire.codec import encode_control, encode_records
from tests.integration.ingest.test_feedback import LiveFeed
from tests.integration.ingest.test_publisher import MAPPING, SHARDS
from tests.support.mbo import random_rows
from tests.support.recording import Feed, assert_stored, drain, flatten, writer


def _trimmed(broker: Broker) -> Feed:
    """2,000 records of which `:in` has only the last 800: the floor ignored persist."""
    feed = Feed(broker)
    rows = random_rows(2000)
    feed.records(rows[:1200])
    feed.records(rows[1200:])
    broker.call("XTRIM", feed.stream(0), "MINID", f"1-{1202}")
    return feed


def test_the_feed_back_fills_what_was_trimmed(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = _trimmed(broker)
    rows = feed.of_shard(0)
    clock = ManualClock()
    recorder = writer(broker_url, prefix, tmp_path, clock=clock, block_rows=300)
    recorder.open()
    assert recorder.poll() == 0  # it waits: nothing is stored past the gap
    recorder.commit()
    assert feed.position(0) is None
    feed.put(0, 1, encode_control(feed.begin, 1, 0, 0, 0), "back")
    for at in range(0, 1300, 170):  # other boundaries than the first time, and past the gap's end
        part = np.ascontiguousarray(rows[at : min(at + 170, 1300)])
        feed.put(0, 1 + at + len(part), encode_records(part, 2 + at, 0, 0, 0), "back")
    clock.advance(5)
    drain(recorder)
    recorder.close()
    assert_stored(LocalHistory(tmp_path), feed)
    assert recorder.gaps == 0


def test_a_shard_that_waits_reads_only_its_feed_back(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(broker)
    feed.records(random_rows(500))
    recorder = writer(broker_url, prefix, tmp_path)
    recorder.open()
    drain(recorder)
    feed.records(random_rows(600))
    feed.records(random_rows(600))
    broker.call("XTRIM", feed.stream(0), "MINID", f"1-{feed.last[0]}")
    read: list[str] = []
    inner = recorder._broker.read

    def reading(after: Mapping[str, str], **options: Any) -> dict[str, list[Entry]]:
        read.extend(after)
        return inner(after, **options)

    monkeypatch.setattr(recorder._broker, "read", reading)
    assert [recorder.poll() for _ in range(4)] == [0] * 4
    names = [name.rsplit(":", 1)[1] for name in read]
    assert (names.count("in"), names.count("back")) == (1, 4)
    recorder.close()


def test_a_live_feed_that_went_past_persist_is_recorded_whole(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    sent = random_rows(900, instruments=20)
    live = LiveFeed(broker_url, prefix, [sent[:50], MAPPING, sent[50:400], sent[400:]])
    live.writer.run(9)
    recorder = writer(broker_url, prefix, tmp_path, name="test")
    recorder.open()
    drain(recorder)
    live.writer.run(20)
    for _ in range(200):
        live.trim()
        live.feed_back()
        recorder.poll()
        recorder.commit()
        recorder.settle()
        if live.source.has_more:
            live.writer.run(5)
    recorder.close()
    history = LocalHistory(tmp_path)
    for shard, records in enumerate(split(sent, SHARDS)):
        found, controls = flatten(list(history.entries("test", 1, shard)))
        assert found.tobytes() == records.tobytes()
        assert "gap" not in [body["type"] for body in controls.values()]
    assert any(broker.call("EXISTS", live.key(shard, "back")) for shard in range(SHARDS))
    live.broker.close()


def test_an_entry_that_is_not_of_its_stream_is_not_recorded(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = Feed(broker)
    recorder = writer(broker_url, prefix, tmp_path)
    recorder.open()
    drain(recorder)
    feed.put(0, 11, encode_records(random_rows(10), 12, 0, 0, 0))
    with pytest.raises(WireError, match="1-11"):
        recorder.poll()
    recorder.close()


def test_a_gap_that_nothing_fills_is_recorded_and_makes_the_books_stale(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    feed = Feed(broker)
    rows = random_rows(2000)
    feed.records(rows[:500])
    clock = ManualClock()
    recorder = writer(broker_url, prefix, tmp_path, clock=clock, block_rows=300)
    recorder.open()
    drain(recorder)
    feed.records(rows[500:1200])
    feed.records(rows[1200:])
    broker.call("XTRIM", feed.stream(0), "MINID", "1-1202")
    broker.call("XDEL", feed.stream(0), "1-1201")
    assert recorder.poll() == 0
    clock.advance(61)
    drain(recorder)
    recorder.close()
    history = LocalHistory(tmp_path)
    found, controls = flatten(list(history.entries("feed", 1, 0)))
    gap = next(ordinal for ordinal, body in controls.items() if body["type"] == "gap")
    assert found.tobytes() == np.concatenate([rows[:500], rows[gap - 1 :]]).tobytes()
    assert (recorder.gaps, history.state("feed", 1, 0, feed.last[0]).stale) == (1, True)
    assert history.state("feed", 1, 0, 501).stale is False
