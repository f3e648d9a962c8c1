"""What `:in` no longer has comes from the journal's feed-back, or is recorded as a gap: never jumped over."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.persist.local import LocalHistory
from shared.broker import Broker
from shared.clock import ManualClock
from shared.wire.codec import encode_control, encode_records
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
