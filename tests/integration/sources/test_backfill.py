"""`mbo backfill`: a day comes again from Historical, as a session of its own that says so."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services import backfill
from services.ingest.feed import Feed
from services.ingest.settings import IngestSettings
from services.ingest.sources import historical
from shared.broker import Broker
from shared.clock import SystemClock
from shared.errors import UsageError
from shared.wire import codec
from tests.support.fake_historical import KEY, FakeHistorical
from tests.support.mbo import random_rows
from tests.support.sources import ArraySource

# the databento client leaves its file open when a stream breaks
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)

DAY = 86_400_000_000_000
FIRST = 20_000 * DAY  # 2024-10-04
FEED = "test.set"


def ingest(broker_url: str, prefix: str, count: int = 10) -> Feed:
    """A first session of the feed, as live would leave it."""
    config = IngestSettings(broker=broker_url, prefix=prefix, shards=2, policy="raw", readers=("book",))
    source = ArraySource([random_rows(count)], dataset="TEST.SET")
    feed = Feed(source, FEED, config, SystemClock(), "first", None)
    assert feed.start()
    while not feed.has_ended:
        feed.step()
    return feed


@pytest.fixture
def parse(tmp_path: Path, broker_url: str, prefix: str) -> Callable[..., argparse.Namespace]:
    def make(*words: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        backfill.add_arguments(parser)
        given = ["--broker", broker_url, "--prefix", prefix, "--data", str(tmp_path), "--yes"]
        return parser.parse_args([*given, *words])

    return make


def test_a_day_is_ingested_again_as_a_repaired_session(
    broker: Broker, broker_url: str, prefix: str, parse: Callable[..., argparse.Namespace], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    monkeypatch.setattr(historical, "RETRY_S", 0.0)
    first = ingest(broker_url, prefix)
    first.release()
    first.close()
    rows = random_rows(5_000, instruments=2)
    rows["ts_recv"] = rows["ts_event"] = FIRST + np.arange(5_000) * 1_000_000
    with FakeHistorical(rows, {1: "ONE", 2: "TWO"}, tmp_path) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        words = (FEED, "--day", "2024-10-04", "--historical-url", server.url)
        assert backfill.run(parse(*words)) == 0
        assert "session 2: 2024-10-04 repaired, 5002 items" in capsys.readouterr().err
        assert backfill.run(parse(*words)) == 0, "again: nothing is added"
    got = 0
    for shard in range(2):
        key = broker.keys.shard(FEED, shard, "in")
        entries = [
            codec.decode_in(entry[1][1])
            for entry in broker.call("XRANGE", key, "2-0", "2-18446744073709551615")
        ]
        begins = [each.control for each in entries if each.control and each.control["type"] == "begin"]
        assert [each["repaired"] for each in begins] == [True]
        got += sum(len(each.records) for each in entries if each.records is not None)
    assert got == 5_000


def test_a_feed_that_is_being_written_is_left_alone(
    broker_url: str, prefix: str, parse: Callable[..., argparse.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ingest(broker_url, prefix)
    made = ArraySource([random_rows(10)], dataset="TEST.SET", identity="other")
    monkeypatch.setattr(backfill, "make_historical", lambda options, repaired: made)
    with pytest.raises(UsageError, match="is being ingested now"):
        backfill.run(parse(FEED, "--day", "2024-10-04"))
    writer.close()


def test_an_unknown_feed_or_day_is_refused(parse: Callable[..., argparse.Namespace]) -> None:
    with pytest.raises(UsageError, match="no feed 'nope'"):
        backfill.run(parse("nope", "--day", "2024-10-04"))
    with pytest.raises(UsageError, match="give a date"):
        backfill.run(parse(FEED, "--day", "yesterday"))
