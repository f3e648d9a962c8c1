"""What a worker measures of its shards once a second: lag, image age, anomalies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from services.book.shard import OwnedShard
from shared import metrics
from shared.broker import Broker
from shared.clock import Clock
from shared.wire.keys import parse_id

EVERY_S = 1.0
GAUGES = (
    "mbo_book_lag_records",
    "mbo_book_lag_seconds",
    "mbo_book_image_age_seconds",
    "mbo_book_image_bytes",
)


class Gauges:
    """Keeps the gauges of owned shards fresh, and removes those of shards that went to another worker."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._due = 0.0
        self._shown: set[tuple[str, int]] = set()
        self._anomalies: dict[tuple[str, int], dict[str, int]] = {}

    def update(self, broker: Broker, owned: Mapping[tuple[str, int], OwnedShard]) -> None:
        """One round trip, and only if a shard's last read was full; raises BrokerLost."""
        now = self.clock.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY_S
        behind = [shard for shard in owned.values() if shard.is_behind]
        ends = (
            dict(zip(behind, broker.last_ids([shard.stream for shard in behind]), strict=True))
            if behind
            else {}
        )
        wall_ns = self.clock.now_ns()
        for key, shard in owned.items():
            tail = ends.get(shard)
            session, end = parse_id(tail.id) if tail else (0, 0)
            done = shard.state.ordinal if session == shard.state.session else 0
            lag = max(end - done, 0)
            seconds = (wall_ns - shard.flowed_ns) / 1e9 if lag and shard.flowed_ns else 0.0
            metrics.get("mbo_book_lag_records").labels(*key).set(lag)
            metrics.get("mbo_book_lag_seconds").labels(*key).set(max(seconds, 0.0))
            metrics.get("mbo_book_image_age_seconds").labels(*key).set(now - shard.image_at)
            self._count_anomalies(key, shard)
        for key in self._shown - owned.keys():
            self._anomalies.pop(key, None)
            for name in GAUGES:
                with suppress(KeyError):
                    metrics.get(name).remove(*map(str, key))
        self._shown = set(owned)

    def _count_anomalies(self, key: tuple[str, int], shard: OwnedShard) -> None:
        """The engine counts per state; what a state came with (an image) was counted by whoever applied it."""
        found = shard.state.engine.anomalies()
        before = self._anomalies.get(key)
        self._anomalies[key] = found
        for kind, count in found.items() if before is not None else ():
            more = count - (before or {}).get(kind, 0)
            if more > 0:
                metrics.get("mbo_book_anomalies_total").labels(key[0], kind).inc(more)
