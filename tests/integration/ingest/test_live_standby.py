"""A live feed that another machine's ingest wrote for a while: the journal here is not its record, and that is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.ingest.feed import Feed
from services.ingest.settings import IngestSettings
from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from services.ingest.sources.live import LiveSource
from shared.broker import Broker
from shared.clock import SystemClock
from tests.integration.ingest.test_publisher import SHARDS, entries
from tests.support import eventually
from tests.support.fake_live_gateway import KEY, FakeGateway

COUNT = 6000
SYMBOLS = {10_001 + index: f"S{index + 1}" for index in range(4)}


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    spec = MarketSpec(seed=11, instruments=4, messages=COUNT, rate=3000, day_s=COUNT / 3000)
    rows = np.concatenate([item for item in Simulation(spec).items() if not isinstance(item, dict)])
    with FakeGateway(rows, dict(SYMBOLS)) as running:
        running.limit = COUNT // 2
        yield running


class Machine:
    """An ingest with a disk of its own; `stop` as SIGKILL would: nothing is released."""

    def __init__(self, broker_url: str, prefix: str, gateway: FakeGateway, data: Path) -> None:
        self.settings = IngestSettings(
            broker=broker_url, prefix=prefix, shards=SHARDS, source=("live",), dataset="TEST.SET", data=data,
            gateway=gateway.address, entry_records=10, lease_ms=1000, readers=("book",), floor_ms=0,
        )  # fmt: skip
        self.feed: Feed | None = None

    def start(self, owner: str) -> Feed:
        source = LiveSource(self.settings.source_options())
        self.feed = Feed(source, "test", self.settings, SystemClock(), owner, None)
        eventually(self.feed.start, timeout_s=10)
        return self.feed

    def run_to(self, position: int) -> int:
        feed = self.feed
        assert feed is not None

        def there() -> bool:
            feed.step()
            return feed.publisher.position >= position

        eventually(there, timeout_s=20, every_s=0)
        feed.publisher.finish()
        return feed.publisher.position

    def stop(self) -> None:
        assert self.feed is not None
        self.feed.close()


def gaps(broker: Broker, after: dict[int, int]) -> list[str]:
    found = []
    for shard in range(SHARDS):
        for _, entry in entries(broker, shard):
            if entry.control is not None and entry.control["type"] == "gap" and entry.last > after[shard]:
                found.append(str(entry.control["reason"]))
    return found


def ends(broker: Broker) -> dict[int, int]:
    return {shard: entries(broker, shard)[-1][1].last for shard in range(SHARDS)}


def test_a_journal_goes_on_only_where_its_own_ingest_wrote_last(
    broker_url: str,
    prefix: str,
    broker: Broker,
    gateway: FakeGateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    ours = Machine(broker_url, prefix, gateway, tmp_path / "a")
    theirs = Machine(broker_url, prefix, gateway, tmp_path / "b")
    ours.start("a1")
    ours.run_to(500)  # its journal has more than that already
    ours.stop()
    before = ends(broker)
    ours.start("a2")
    ours.run_to(600)
    ours.stop()
    assert gaps(broker, before) == [], "the same machine again: its journal goes on"
    theirs.start("b1")
    at = theirs.run_to(ours.feed.publisher.position + 20)  # type: ignore[union-attr]
    theirs.stop()
    before = ends(broker)
    ours.start("a3")
    ours.run_to(at + 100)
    ours.stop()
    assert gaps(broker, before), "what it had journaled at these positions is not what was published there"
