"""A real Prometheus scrapes a running pipeline: rules are evaluated, and every query of every panel has data.

The faults come before the questions, so that the panels of errors, restarts and take-overs have something to show.
"""

from __future__ import annotations

import contextlib
import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import pytest

from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from tests.deploy import alerts_live
from tests.deploy.observed.pipeline import Client, Pipeline
from tests.deploy.observed.servers import Alertmanager, Pager, Prometheus, ask
from tests.deploy.test_monitoring import queries
from tests.deploy.tools import tool
from tests.support import eventually
from tests.support.fake_live_gateway import FakeGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATHS = (
    "/v1/instruments",
    "/v1/pipeline",
    "/v1/book/{symbol}",
    "/v1/history/{symbol}/trades",
    "/v1/book/NO_SUCH",
)
LIVE = MarketSpec(seed=11, instruments=4, messages=100_000, rate=300, day_s=100_000 / 300)
SCRAPES = 11  # of a minute, every 5 s


def _visit(address: str, symbol: str) -> None:
    """One request of each kind; a 4xx is as good as a 200."""
    for path in PATHS:
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(address + path.format(symbol=symbol), timeout=10) as answer,
        ):
            answer.read()


@pytest.fixture(scope="module")
def databento() -> Iterator[FakeGateway]:
    rows = np.concatenate([item for item in Simulation(LIVE).items() if not isinstance(item, dict)])
    names = {key: f"S{key}" for key in np.unique(rows["instrument_id"]).tolist()}
    with FakeGateway(rows, names, rate=LIVE.rate) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, databento: FakeGateway) -> Iterator[Prometheus]:
    for name in ("prometheus", "prometheus-alertmanager"):
        tool(name)
    folder = tmp_path_factory.mktemp("observed")
    pipeline, pager = Pipeline(folder), Pager()
    pipeline.add_live(databento)
    pipeline.start()
    client = Client(pipeline.address)
    client.start()
    alertmanager = Alertmanager(folder, pager)
    prometheus = Prometheus(folder, pipeline.targets(), alertmanager)
    try:
        eventually(lambda: prometheus.targets_up() == 7, timeout_s=60, every_s=0.5)
        eventually(lambda: client.events.get("trade", 0) > 0, timeout_s=60)
        # records of another schema, a lost connection, then every kind of process
        databento.send(bytes(dbn.TradeMsg(1, 10_001, 5, 100, 1, dbn.Action.TRADE, dbn.Side.BID, 0, 6)))
        databento.drop()
        pipeline["book-1"].kill()
        pipeline["book-1"].start()
        pipeline["gateway"].kill()  # the client comes back with its id
        pipeline["gateway"].start()
        pipeline.kill_broker()
        pipeline.broker.start()
        pipeline.wait_ready()
        symbol = eventually(lambda: _first_symbol(pipeline.address), timeout_s=60)
        eventually(
            lambda: _has_a_minute_of_requests(prometheus, pipeline.address, symbol),
            timeout_s=150,
            every_s=2.0,
        )
        yield prometheus
    finally:
        client.close()
        prometheus.close()
        alertmanager.close()
        pager.close()
        pipeline.close()


def _first_symbol(address: str) -> str | None:
    try:
        rows = ask(f"{address}/v1/instruments")["instruments"]
    except OSError:
        return None
    return str(rows[0]["symbol"]) if rows else None


def _has_a_minute_of_requests(prometheus: Prometheus, address: str, symbol: str) -> bool:
    """Whether the restarted gateway's requests have been scraped for a minute; makes some more."""
    _visit(address, symbol)
    return (prometheus.value("max(count_over_time(mbo_gateway_requests_total[1m]))") or 0) >= SCRAPES


def test_every_rule_is_evaluated_without_an_error(observed: Prometheus) -> None:
    rules = observed.rules()
    assert len(rules) > 50
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_every_query_of_every_panel_has_data(observed: Prometheus) -> None:
    empty, not_a_number = [], []
    for where, expr in queries():
        found = observed.query(expr)
        if not found:
            empty.append(f"{where}: {expr}")
        elif all(math.isnan(float(each["value"][1])) for each in found):
            not_a_number.append(f"{where}: {expr}")
    assert (empty, not_a_number) == ([], [])


def test_counters_of_alerts_on_a_first_event_exist_before_it(observed: Prometheus) -> None:
    for name in ("mbo_ingest_gaps_total", "mbo_ingest_fenced_total", "mbo_ingest_resent_records_total",
                 "mbo_book_epochs_lost_total", 'mbo_book_images_total{result="failed"}', "mbo_persist_gaps_total",
                 'mbo_gateway_byes_total{reason="overload"}'):  # fmt: skip
        assert observed.query(name), name


def test_a_worker_that_was_killed_counts_as_a_takeover_of_expired_shards(observed: Prometheus) -> None:
    assert (observed.value('sum(mbo_book_takeovers_total{how="expired"})') or 0) > 0


def test_alerts_fire_when_something_dies_and_clear(tmp_path: Path) -> None:
    """`make alerts`: worker, persist, broker and ingest killed in turn under a real Prometheus and Alertmanager."""
    for name in ("prometheus", "prometheus-alertmanager"):
        tool(name)
    _, problems = alerts_live.run(tmp_path)
    assert problems == []
