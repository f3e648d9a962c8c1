"""A live feed on a broker that is nearly full: the journal takes what comes, and gives it when there is room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.ingest.feed import Feed
from services.ingest.settings import IngestSettings
from shared.broker import Broker
from shared.clock import SystemClock
from shared.records import Rows
from tests.integration.ingest.test_publisher import MAPPING, SHARDS, check_exactly_once
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.sources import JournaledArray


@pytest.fixture
def sent() -> Rows:
    return random_rows(3000, instruments=20)


@pytest.fixture
def feed(broker_url: str, prefix: str, sent: Rows, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    """Nothing is trimmed; the broker's memory is what the test says."""
    settings = IngestSettings(
        broker=broker_url, prefix=prefix, shards=SHARDS, entry_records=10, floor_ms=0, busy_floor_ms=0
    )
    source = JournaledArray([sent[:500], MAPPING, sent[500:]])
    made = Feed(source, "test", settings, SystemClock(), "me", None)
    monkeypatch.setattr(made.upkeep, "_read_memory", lambda: None)
    yield made
    made.close()


def fill(feed: Feed, *, full: bool, critical: bool) -> None:
    feed.upkeep.memory_full, feed.upkeep.memory_critical = full, critical


def steps(feed: Feed, count: int) -> None:
    for _ in range(count):
        feed.step()


def run_to_the_end(feed: Feed) -> None:
    def ended() -> bool:
        feed.step()
        return feed.has_ended

    eventually(ended, every_s=0)


def test_past_the_first_mark_live_goes_on(feed: Feed) -> None:
    steps(feed, 5)
    fill(feed, full=True, critical=False)
    before = feed.publisher.position
    steps(feed, 20)
    assert feed.publisher.position > before


def test_past_the_last_mark_the_journal_takes_what_comes_and_gives_it_when_there_is_room(
    feed: Feed, broker: Broker, sent: Rows
) -> None:
    steps(feed, 20)
    fill(feed, full=True, critical=True)
    steps(feed, 30)
    before, taken = feed.publisher.position, feed.source._position  # type: ignore[attr-defined]
    steps(feed, 30)
    assert feed.publisher.position == before, "nothing more goes to the broker"
    assert feed.source._position > taken, "the source is read all the while"  # type: ignore[attr-defined]
    assert feed.facts()["limits"]["journaled_items"] > 0
    fill(feed, full=False, critical=False)
    run_to_the_end(feed)
    assert feed.facts()["limits"]["journaled_items"] == 0
    check_exactly_once(broker, sent)


@pytest.mark.parametrize("every", [1, 3, 7, 20])
def test_going_back_and_forth_between_the_marks_loses_and_doubles_nothing(
    feed: Feed, broker: Broker, sent: Rows, every: int
) -> None:
    for turn in range(400):
        if turn % every == 0:
            fill(feed, full=(turn // every) % 3 > 0, critical=(turn // every) % 3 == 2)
        feed.step()
    fill(feed, full=False, critical=False)
    run_to_the_end(feed)
    check_exactly_once(broker, sent)


def test_a_restart_on_the_way_goes_on_from_the_broker(feed: Feed, broker: Broker, sent: Rows) -> None:
    steps(feed, 20)
    fill(feed, full=True, critical=True)
    steps(feed, 30)
    feed.reset()
    fill(feed, full=False, critical=False)
    run_to_the_end(feed)
    check_exactly_once(broker, sent)
