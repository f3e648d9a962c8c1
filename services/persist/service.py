"""The persist process: one writer a feed, driven in turn by one loop, and the reader process beside it."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import Any

from services.persist.process import ReaderProcess
from services.persist.recorder import Cadence
from services.persist.retention import Retention
from services.persist.settings import PersistSettings
from services.persist.store import store_dir, store_path
from services.persist.writer import FeedWriter
from shared import logs, metrics
from shared.broker import Broker
from shared.clock import Clock, SystemClock
from shared.errors import StoreError

log = logs.get("persist")

DISCOVER_S = 1.0  # between two looks for new feeds and at the broker's health
AT_ONCE_RECORDS = (
    16_384  # after a pass that found fewer comes a pause: few large passes cost less than many small
)
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 60.0  # of a feed whose file or disk failed
FATAL = ("locked", "unwritable")


@dataclass(slots=True)
class Feed:
    """A feed being recorded, or waiting to be tried again."""

    writer: FeedWriter
    retention: Retention
    is_open: bool = False
    is_busy: bool = False  # the last pass found something to read
    failure: str = ""
    why: str = ""
    retry_at: float = 0.0
    retry_s: float = RETRY_FIRST_S
    counted: int = 0
    gaps: int = 0


class PersistService:
    """See services/persist/README.md."""

    role = "persist"

    def __init__(self, config: PersistSettings, clock: Clock | None = None) -> None:
        self.settings = config
        self.clock: Clock = clock or SystemClock()
        self._broker = Broker(config.broker, config.prefix, name="persist", password=config.broker_password())
        self._feeds: dict[str, Feed] = {}
        self._looked = float("-inf")
        self._reader = ReaderProcess(config) if config.history else None
        self._niced = False

    # -- the runner's contract --------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self._niced:
            self._niced = True
            os.nice(self.settings.nice)
            try:
                store_dir(self.settings.data).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"data directory {self.settings.data}: {error.strerror}; choose another with --data"
                ) from error
        self._look(first=True)
        if self._reader is not None:
            self._reader.watch()

    def step(self) -> bool:
        now = self.clock.monotonic()
        if now - self._looked >= DISCOVER_S:
            self._look()
            if self._reader is not None:
                self._reader.watch()
        busy = False
        for name, feed in self._feeds.items():
            if feed.is_open:
                busy |= self._drive(name, feed)
        if not busy:
            self.clock.sleep(self.settings.poll_ms / 1000)
        return True

    def facts(self) -> dict[str, Any]:
        rows = {}
        for name, feed in list(self._feeds.items()):
            rows[name] = {
                "recording": feed.is_open, "problem": feed.failure or None, "records": feed.writer.records,
                "at": [shard.after for shard in list(feed.writer.shards)], "gaps": feed.writer.gaps,
            }  # fmt: skip
        reader = self._reader.url if self._reader is not None else None
        return {
            "feeds": rows,
            "history": reader,
            "problems": sum(bool(feed.failure) for feed in self._feeds.values()),
        }

    def reset(self) -> None:
        self._broker.close()
        for feed in self._feeds.values():
            feed.writer.close()
            feed.is_open = False
        self._looked = float("-inf")

    def drain(self) -> None:
        for name, feed in self._feeds.items():
            if self._settle(name, feed):
                self._guard(name, feed, feed.writer.commit)
                self._settle(name, feed)

    def close(self) -> None:
        for feed in self._feeds.values():
            feed.writer.close()
        if self._reader is not None:
            self._reader.close()
        self._broker.close()

    # -- feeds ------------------------------------------------------------------------------------------------------

    def _look(self, *, first: bool = False) -> None:
        """Find new feeds, open what is closed, notice a broker that lost its data."""
        self._looked = self.clock.monotonic()
        names = self.settings.feeds or sorted(
            name.decode() for name in self._broker.call("SMEMBERS", self._broker.keys.feeds)
        )
        for name in names:
            if name not in self._feeds:
                metrics.zero("mbo_persist_", feed=name)
                self._feeds[name] = self._make(name)
        for name, feed in self._feeds.items():
            if feed.is_open:
                if feed.writer.told.is_lost():
                    raise feed.writer.reopen_needed()
                self._measure(name, feed)
                if feed.retention.is_due(self._looked) and self._settle(name, feed):
                    self._guard(name, feed, lambda feed=feed: self._retain(feed))
            elif self._looked >= feed.retry_at:
                feed.is_open = bool(self._guard(name, feed, feed.writer.open, fatal=first))

    def _make(self, name: str) -> Feed:
        config = self.settings
        cadence = Cadence(image_records=config.image_records, image_ns=config.image_s * 1_000_000_000)
        path = store_path(config.data, name)
        writer = FeedWriter(
            self._broker, name, path, self.clock, cadence=cadence, gap_wait_s=config.gap_wait_s
        )
        return Feed(writer, Retention(path, keep_days=config.keep_days, keep_bytes=int(config.keep_gb * 1e9)))

    def _drive(self, name: str, feed: Feed) -> bool:
        """One pass of a feed; True if there may be more to read at once."""
        writer = feed.writer
        begun = time.perf_counter()
        read = self._guard(name, feed, writer.poll) or 0
        feed.is_busy = bool(read)
        if read:
            metrics.get("mbo_persist_apply_seconds_total").labels(name).inc(time.perf_counter() - begun)
        is_due = writer.due(self.settings.commit_records, self.settings.commit_ms)
        if self._settle(name, feed, wait=is_due) and is_due:
            self._guard(name, feed, writer.commit)
        return read >= AT_ONCE_RECORDS

    def _settle(self, name: str, feed: Feed, *, wait: bool = True) -> bool:
        """End the commit that is on its way, to whose thread the file belongs until then, and count it. False if the
        feed is not open, or no longer."""
        writer = feed.writer
        seconds = self._guard(name, feed, lambda: writer.settle(wait=wait)) if feed.is_open else None
        if seconds is None:
            return feed.is_open
        metrics.get("mbo_persist_commit_seconds").labels(name).observe(seconds)
        metrics.get("mbo_persist_commits_total").labels(name).inc()
        metrics.get("mbo_persist_records_total").labels(name).inc(writer.recorded - feed.counted)
        metrics.get("mbo_persist_gaps_total").labels(name).inc(writer.gaps - feed.gaps)
        feed.counted, feed.gaps = writer.recorded, writer.gaps
        if feed.failure:
            metrics.get("mbo_persist_store_failed").labels(name, feed.why).set(0)
            log.info("storing again", feed=name)
            feed.failure, feed.why, feed.retry_s = "", "", RETRY_FIRST_S
        return True

    def _guard(self, name: str, feed: Feed, act: Any, *, fatal: bool = False) -> Any:
        """Run `act`; a StoreError closes this feed and tries again later, so that other feeds are still recorded."""
        try:
            return act()
        except StoreError as error:
            if fatal and error.facts.get("why") in FATAL:
                raise
            feed.writer.close()
            feed.gaps = feed.writer.gaps
            feed.is_open, feed.failure, feed.why = False, str(error), str(error.facts.get("why", "store"))
            feed.retry_at = self.clock.monotonic() + feed.retry_s
            feed.retry_s = min(feed.retry_s * 2, RETRY_MOST_S)
            metrics.get("mbo_persist_store_failed").labels(name, feed.why).set(1)
            metrics.get("mbo_service_errors_total").labels(self.role, "StoreError").inc()
            log.error("cannot store", feed=name, detail=str(error), retry_s=feed.retry_s)
            return None

    def _retain(self, feed: Feed) -> None:
        assert feed.writer.store is not None
        removed = feed.retention.step(feed.writer.store.db, self.clock.monotonic())
        if removed:
            metrics.get("mbo_persist_removed_records_total").labels(feed.writer.feed).inc(removed)

    def _measure(self, name: str, feed: Feed) -> None:
        path = feed.writer.path
        wal = path.with_name(path.name + "-wal")
        # By ts_ingest, not by when it was read: a writer that is far behind reads old records without a pause.
        late = self.clock.now_ns() - feed.writer.oldest_ns if feed.writer.pending or feed.is_busy else 0
        metrics.get("mbo_persist_lag_seconds").labels(name).set(max(late, 0) / 1e9)
        if path.exists():
            metrics.get("mbo_persist_store_bytes").labels(name).set(path.stat().st_size)
            metrics.get("mbo_persist_wal_bytes").labels(name).set(wal.stat().st_size if wal.exists() else 0)
            metrics.get("mbo_persist_disk_free_bytes").set(shutil.disk_usage(path.parent).free)
