"""A market for the fake gateway, and a live source on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from services.ingest.sources.live import LiveSource
from services.ingest.sources.options import SourceOptions
from shared import metrics
from shared.records import Rows
from tests.support.fake_live_gateway import KEY, FakeGateway

COUNT = 20_000
SYMBOLS = {10_001 + index: f"S{index + 1}" for index in range(4)}


@pytest.fixture(scope="session")
def market_rows() -> Rows:
    spec = MarketSpec(seed=11, instruments=4, messages=COUNT, rate=3000, day_s=COUNT / 3000)
    return np.concatenate([item for item in Simulation(spec).items() if not isinstance(item, dict)])


@pytest.fixture
def gateway(market_rows: Rows) -> Iterator[FakeGateway]:
    with FakeGateway(market_rows, dict(SYMBOLS)) as running:
        yield running


Count = Callable[..., float]


@pytest.fixture
def counted(tmp_path: Path) -> Count:
    """The value of a live metric of this test's feed, e.g. counted("reconnects_total", why="broken")."""

    def value(name: str, **labels: str) -> float:
        labels = {"feed": f"live-{tmp_path.name}", **labels}
        return metrics.registry.get_sample_value(f"mbo_ingest_live_{name}", labels) or 0.0

    return value


@pytest.fixture
def live(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., LiveSource]]:
    """Make live sources on the gateway; all are closed at the end."""
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    made: list[LiveSource] = []
    feed = f"live-{tmp_path.name}"  # the metrics are those of this test alone

    def make(**options: Any) -> LiveSource:
        given = {"dataset": "TEST.SET", "gateway": gateway.address, "data": tmp_path, "feed": feed, **options}
        made.append(LiveSource(SourceOptions(source=("live",), **given)))
        return made[-1]

    yield make
    for source in made:
        source.close()
