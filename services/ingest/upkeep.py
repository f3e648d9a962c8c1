"""What keeps the broker small while a feed runs: back-pressure, trimming by MINID, AOF rewrites."""

from __future__ import annotations

from services.ingest.feedback import READER, FeedBack, anchor
from services.ingest.publisher import Publisher
from services.ingest.settings import IngestSettings
from shared import logs, metrics
from shared.broker import Broker, fullest
from shared.clock import Clock
from shared.wire.keys import parse_id, stream_id

log = logs.get("ingest")

BACKLOG_S = 0.02
TRIM_S = 0.5
MEMORY_S = 1.0
REWRITE_LEAST_BYTES = 1 << 30
REWRITE_FACTOR = 4  # of the memory in use: what a rewrite would leave is about that much


class Upkeep:
    """Polls readers' offsets and the broker's memory for one feed, on the control connection."""

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        settings: IngestSettings,
        feed: str,
        feed_back: FeedBack | None = None,
    ) -> None:
        """`feed_back`: of a live feed, which can do without persist's offset past the memory mark."""
        self.broker, self.clock, self.settings, self.feed = broker, clock, settings, feed
        self.feed_back = feed_back
        self.backlog = 0
        self.memory_full = False  # past `memory_share`
        self.memory_critical = False  # past `live_memory_share`
        self.memory_used = self.memory_limit = 0  # bytes
        self._due = {"backlog": 0.0, "trim": 0.0, "memory": 0.0}
        self._backlog_gauge = metrics.get("mbo_ingest_backlog_records").labels(feed)
        metrics.get("mbo_ingest_backlog_limit_records").labels(feed).set(settings.max_backlog)
        lag = metrics.get("mbo_ingest_reader_lag_records")
        self._lag_gauges = [lag.labels(feed, reader) for reader in settings.readers]

    def held_back(self) -> str:
        """Why a replay must wait now: `backlog`, `memory` or the empty string."""
        if self.memory_full:
            return "memory"
        return "backlog" if self.backlog > self.settings.max_backlog else ""

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self.clock.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every_s
        return True

    def run(self, publisher: Publisher) -> None:
        """Do what is due; a few round trips at most."""
        if self._is_due("backlog", BACKLOG_S):
            self._read_offsets(publisher, trim=self._is_due("trim", TRIM_S))
        if self._is_due("memory", MEMORY_S):
            self._read_memory()

    def _read_offsets(self, publisher: Publisher, *, trim: bool) -> None:
        keys, readers = self.broker.keys, self.settings.readers
        fields = (*readers, "book_image_prev")
        rows = self.broker.pipe(
            [("HMGET", keys.shard(self.feed, shard, "pos"), *fields) for shard in range(publisher.shards)]
        )
        self.backlog = 0
        lags = [0] * len(readers)
        for shard, row in enumerate(rows):
            taken = [parse_id(reply) if reply else (0, 0) for reply in row]
            behind = [
                max(publisher.ordinals[shard] - (done if session == publisher.session else 0), 0)
                for session, done in taken[:-1]
            ]
            self.backlog += max(behind, default=0)
            lags = [lag + more for lag, more in zip(lags, behind, strict=True)]
            if trim:
                self._trim(publisher, shard, self._floor(shard, dict(zip(fields, taken, strict=True))))
        self._backlog_gauge.set(self.backlog)
        for gauge, lag in zip(self._lag_gauges, lags, strict=True):
            gauge.set(lag)

    def _floor(self, shard: int, taken: dict[str, tuple[int, int]]) -> tuple[int, int]:
        """Up to where a shard is trimmed: what all have passed; past the memory mark live does not wait for persist."""
        floor = min(taken.values())
        if (
            self.feed_back is None
            or self.feed_back.owned is None
            or not self.memory_full
            or READER not in taken
        ):
            return floor
        stored = taken.pop(READER)
        others = min(taken.values())
        if others > stored and anchor(self.broker, self.feed_back.owned, self.feed, shard, stored):
            log.limited("trimmed past persist: the journal feeds it back", feed=self.feed, shard=shard)
            return others
        return floor

    def _trim(self, publisher: Publisher, shard: int, floor: tuple[int, int]) -> None:
        if floor == (0, 0):
            return
        keys = self.broker.keys
        names = [keys.shard(self.feed, shard, "in"), keys.shard(self.feed, shard, "writer")]
        reply = self.broker.call(
            *self.broker.script("trim", names, [publisher.lease.token, stream_id(floor[0], floor[1] + 1)])
        )
        if reply[0] != b"OK":
            raise publisher.lease.lost(f"feed {self.feed} has another writer now", shard=shard)
        metrics.get("mbo_ingest_trim_floor_ordinals").labels(self.feed, shard).set(floor[1])

    def _read_memory(self) -> None:
        nodes = self.broker.info("memory", "persistence")
        used, limit = fullest(nodes)
        metrics.get("mbo_ingest_broker_memory_bytes").set(used)
        metrics.get("mbo_ingest_broker_memory_limit_bytes").set(limit)
        metrics.get("mbo_ingest_broker_memory_mark_bytes").set(limit * self.settings.memory_share)
        self.memory_used, self.memory_limit = used, limit
        was, self.memory_full = self.memory_full, bool(limit) and used > limit * self.settings.memory_share
        self.memory_critical = bool(limit) and used > limit * self.settings.live_memory_share
        if self.feed_back is not None:
            self.feed_back.fit(limit)
        if self.memory_full and not was:
            log.limited(
                "broker memory past its mark",
                used_bytes=used,
                limit_bytes=limit,
                share=self.settings.memory_share,
            )
        worth = [is_worth_a_rewrite(node) for node in nodes]
        if any(worth):
            refused = self.broker.rewrite_logs(worth)
            log.info("aof rewrite", nodes=sum(worth), used_bytes=used, refused=refused)


def is_worth_a_rewrite(node: dict[str, str]) -> bool:
    """Whether a node's AOF is large, and much larger than what a rewrite would leave."""
    least = max(REWRITE_LEAST_BYTES, REWRITE_FACTOR * int(node["used_memory"]))
    return int(node.get("aof_current_size", 0)) > least and node["aof_rewrite_in_progress"] == "0"
