"""A worker's gauges say how far behind its shards are, and forget the shards that another worker took."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from services.book.gauges import EVERY_S, Gauges
from shared import metrics
from shared.broker import Broker

NOW_NS = 1_760_000_000_000_000_000


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def now_ns(self) -> int:
        return NOW_NS


class FakeShard:
    """As much of an OwnedShard as is measured; identity is its hash, as there."""

    def __init__(self, stream: str, ordinal: int, counted: dict[str, int]) -> None:
        self.stream, self.is_behind, self.image_at, self.flowed_ns = (
            stream,
            True,
            93.0,
            NOW_NS - 4_000_000_000,
        )
        self.state = SimpleNamespace(
            session=3, ordinal=ordinal, engine=SimpleNamespace(anomalies=lambda: dict(counted))
        )


def _value(name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_lag_is_what_the_stream_holds_beyond_the_offset(broker: Broker, prefix: str) -> None:
    clock, feed = FakeClock(), prefix + "lag"
    stream = broker.keys.shard(feed, 0, "in")
    broker.call("XADD", stream, "3-500", "d", b"x")
    counted = {"unknown_cancel": 7}
    shard: Any = FakeShard(stream, 120, counted)
    gauges = Gauges(clock)  # type: ignore[arg-type]

    gauges.update(broker, {(feed, 0): shard})
    assert _value("mbo_book_lag_records", feed=feed, shard="0") == 380
    assert _value("mbo_book_lag_seconds", feed=feed, shard="0") == 4.0
    assert _value("mbo_book_image_age_seconds", feed=feed, shard="0") == 7.0
    assert _value("mbo_book_anomalies_total", feed=feed, kind="unknown_cancel") is None, (
        "an image's were counted before"
    )

    counted["unknown_cancel"], shard.state.ordinal = 9, 500
    clock.seconds += EVERY_S
    gauges.update(broker, {(feed, 0): shard})
    assert _value("mbo_book_lag_records", feed=feed, shard="0") == 0
    assert _value("mbo_book_lag_seconds", feed=feed, shard="0") == 0
    assert _value("mbo_book_anomalies_total", feed=feed, kind="unknown_cancel") == 2

    clock.seconds += EVERY_S
    gauges.update(broker, {})
    assert _value("mbo_book_lag_records", feed=feed, shard="0") is None
