"""The catalogue: names, buckets that tell sub-millisecond quantiles, counters that exist before their first event."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, Histogram

from services.gateway import close_codes
from shared.metrics import LATENCY_S, METRICS
from shared.orderbook.engine import ANOMALIES

BUDGETS_S = (0.0015, 0.0025, 0.005, 0.01, 0.015, 0.1)  # DESIGN's latency budgets and the objective
UNITS = ("_total", "_seconds", "_bytes", "_records", "_ordinals", "_items", "_number", "_shards", "_owned", "_up",
         "_clients", "_topics", "_connections", "_recalls", "_failed")  # fmt: skip


def test_names_say_service_and_unit() -> None:
    for metric in METRICS:
        assert re.match(r"mbo_(service|broker|ingest|book|gateway|persist)_", metric.name), metric.name
        assert metric.name.endswith(UNITS), metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert set(metric.values) <= set(metric.labels), metric.name


def test_budgets_are_bucket_bounds_and_neighbours_are_at_most_twice_apart() -> None:
    assert set(BUDGETS_S) <= set(LATENCY_S)
    assert list(LATENCY_S) == sorted(set(LATENCY_S))
    for low, high in itertools.pairwise(bound for bound in LATENCY_S if bound <= 0.1):
        assert high / low <= 2.0 + 1e-9, (low, high)


@pytest.mark.parametrize("true_s", [30e-6, 80e-6, 250e-6, 0.9e-3, 2.2e-3, 4.5e-3, 9e-3, 80e-3])
def test_a_quantile_read_from_the_buckets_is_within_half_of_the_true_one(true_s: float) -> None:
    """99 % of observations at a tenth of `true_s`, the rest at it: Prometheus' interpolation of p99.9."""
    histogram = Histogram("h", "h", registry=CollectorRegistry(), buckets=LATENCY_S)
    for index in range(1000):
        histogram.observe(true_s if index % 100 == 0 else true_s / 10)
    found = {sample.labels["le"]: sample.value for sample in next(iter(histogram.collect())).samples
             if sample.name == "h_bucket"}  # fmt: skip
    rank, before, low = 0.999 * 1000, 0.0, 0.0
    for bound, count in ((float(le), count) for le, count in found.items()):
        if count >= rank:
            read = low + (bound - low) * (rank - before) / (count - before)
            break
        before, low = count, bound
    assert true_s / 1.5 <= read <= true_s * 1.5


def test_label_values_named_in_the_catalogue_are_those_of_the_code() -> None:
    rows = {metric.name: metric for metric in METRICS}
    reasons = {each.reason for each in vars(close_codes).values() if isinstance(each, close_codes.Bye)}
    assert set(rows["mbo_gateway_byes_total"].values["reason"]) == reasons


def test_counters_are_exported_before_their_first_event() -> None:
    """In a process of its own: the registry is one a process."""
    code = (
        "from shared import metrics; from shared.orderbook.engine import ANOMALIES\n"
        "metrics.zero('mbo_ingest_', feed='f'); metrics.zero('mbo_book_', feed='f', kind=ANOMALIES[1:])\n"
        "metrics.zero('mbo_gateway_'); metrics.zero('mbo_persist_', feed='f'); print(metrics.render().decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for line in (
        'mbo_ingest_gaps_total{feed="f"} 0.0',
        'mbo_book_takeovers_total{feed="f",how="expired"} 0.0',
        'mbo_book_images_total{feed="f",result="failed"} 0.0',
        f'mbo_book_anomalies_total{{feed="f",kind="{ANOMALIES[1]}"}} 0.0',
        'mbo_gateway_byes_total{reason="slow"} 0.0',
        "mbo_gateway_lags_total 0.0",
        'mbo_persist_store_failed{feed="f",why="full"} 0.0',
    ):
        assert line in done.stdout.splitlines(), line
    assert "mbo_ingest_backlog_records{" not in done.stdout, "a gauge is not known before it is measured"
    assert 'shard="' not in done.stdout
