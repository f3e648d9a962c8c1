"""One feed at work: read ahead, release what is due, one flush in flight, never more than the readers can take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from services.ingest.detour import LIVE_READ_S, Detour
from services.ingest.feedback import FeedBack, Owned
from services.ingest.lease import Waiting
from services.ingest.opening import Opening
from services.ingest.pacing import NS, Pacer
from services.ingest.progress import FeedProgress
from services.ingest.publisher import Publisher
from services.ingest.settings import IngestSettings
from services.ingest.sources.base import Chunk, EndOfSource, Journaled, Source
from services.ingest.upkeep import Upkeep
from shared import logs, metrics
from shared.broker import Broker
from shared.clock import Clock

log = logs.get("ingest")

STANDBY_POLL_S = 0.2
OPENING_POLL_S = 0.02
IDLE_S = 0.002  # longest nap while records are to come


class Feed:
    """Drives a Publisher from a Source. `step` never blocks for long; it returns how long it has nothing to do."""

    def __init__(
        self,
        source: Source,
        name: str,
        settings: IngestSettings,
        clock: Clock,
        owner: str,
        password: str | None,
    ) -> None:
        self.source, self.name, self.settings, self.clock = source, name, settings, clock

        def connect(part: str) -> Broker:
            return Broker(settings.broker, settings.prefix, name=f"ingest-{name}{part}", password=password)

        self.control = connect("-control")
        self.publisher = Publisher(connect(""), self.control, clock, settings, name, owner)
        self.feed_back = (
            FeedBack(connect("-back"), clock, settings, name, source)
            if isinstance(source, Journaled)
            else None
        )
        self._detour: Detour | None = None  # in the place of a live source while the broker is nearly full
        self._spec: Mapping[str, Any] = {}
        self.upkeep = Upkeep(self.control, clock, settings, name, self.feed_back)
        self.pacer = Pacer(clock, settings.speed, settings.rate)
        self.state = "starting"
        self._opening: Opening | None = None
        self.has_ended = False
        self._is_exhausted = (
            False  # the source has given its last item; what was read ahead is still to be sent
        )
        self._ahead: tuple[Chunk, NDArray[Any] | None, int] | None = (
            None  # chunk, due times, records released
        )
        self._flushed_at = 0.0
        self._busy = False
        self._was_full = False  # the last flush took all it may: more is due
        self._renew_at = 0.0
        self._standby_at = 0.0
        self._progress = FeedProgress(name, source.total)
        get = metrics.get
        self._records = get("mbo_ingest_records_total").labels(name)
        self._flushes = get("mbo_ingest_flushes_total").labels(name)
        self._flush_seconds = get("mbo_ingest_flush_seconds").labels(name)
        self._wait_seconds = get("mbo_ingest_wait_seconds").labels(name)
        self._held = get("mbo_ingest_held_back_seconds_total")
        self._position = get("mbo_ingest_position_items").labels(name)
        self._lag = get("mbo_ingest_lag_seconds").labels(name)
        metrics.zero("mbo_ingest_", feed=name)
        self._oldest_due = 0  # of what is buffered, ns
        self._sent_due = 0  # of the flush in flight

    def start(self) -> bool:
        """Take the feed and begin to open the source where it must go on; False while another ingest owns it."""
        now = self.clock.monotonic()
        if now < self._standby_at or not (self._opening is None or self._opening.is_over):
            return False
        try:
            self.publisher.lease.take()
        except Waiting as waiting:
            self._standby_at = now + STANDBY_POLL_S
            if self.state != "standby":
                log.info("standby", feed=self.name, why=str(waiting))
            self.state = "standby"
            return False
        self._renew_at = now + self.settings.lease_ms / 3000
        if self.feed_back is not None:
            self.feed_back.source.claim(self.publisher.lease.token, self.publisher.writers())
        resume = self.publisher.start(self.source)
        metrics.get("mbo_ingest_session_number").labels(self.name).set(resume.session)
        self._ahead, self.state, self.has_ended, self._is_exhausted = None, "opening", False, False
        self._detour, self._spec = None, resume.spec
        if self.feed_back is not None:
            metrics.get("mbo_ingest_journaled_items").labels(self.name).set(0)
            self.feed_back.owned = Owned(
                self.publisher.lease.token, resume.session, self.publisher.shards, resume.spec
            )
        self.pacer = Pacer(self.clock, self.settings.speed, self.settings.rate)
        if resume.is_complete:
            log.info(
                "source already complete: nothing added",
                feed=self.name,
                session=resume.session,
                text="a file that was cut off then, or has grown, is read whole with --fresh or another --feed",
            )
            self.publisher.end("source ended")
            self._finish_source()
        else:
            self._opening = Opening(self.source, resume.position, resume.spec)
        return True

    def _has_opened(self) -> bool:
        assert self._opening is not None
        if not self._opening.is_over:
            return False
        self._opening.check()
        self._opening, self.state = None, "running"
        return True

    def _finish_source(self) -> None:
        self.has_ended, self.state = True, "ended"
        self._progress.close()

    def step(self) -> float:
        """One pass; the seconds until there is something to do."""
        if self.state in ("starting", "standby") and not self.start():
            return STANDBY_POLL_S
        now = self.clock.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self.settings.lease_ms / 3000
            self.publisher.lease.renew()
        if self.state == "opening" and not self._has_opened():
            return OPENING_POLL_S
        if self.publisher.in_flight:
            self._read_ahead()
            if (left := self._until_floor()) > 0:
                return left  # the acknowledgement will be there: one sleep a flush, not two
            self._acknowledge()
        self.upkeep.run(self.publisher)
        if self.has_ended:
            return 0.02
        if self._must_wait():
            return IDLE_S
        return self._release()

    def _must_wait(self) -> bool:
        """A replay waits for its readers and the broker's memory; live does not, but past the last mark it goes by way
        of the journal, which can wait."""
        if self.feed_back is not None:
            if self._detour is None and self.upkeep.memory_critical:
                given = self._ahead[0].position if self._ahead else self.publisher.position
                at = self.publisher.position
                self._detour, self._ahead = Detour(self.name, self.source, self._spec, at, given), None
            elif self._detour is not None and self._detour.is_over:
                self._detour = None
        if self.source.is_live and self._detour is None:
            return False
        why = self.upkeep.held_back()
        if why and self._detour is not None:
            self._detour.journal(self.settings.entry_records * self.publisher.shards)
        if why:
            self._held.labels(self.name, why).inc(IDLE_S)
        return bool(why)

    def _acknowledge(self) -> None:
        count = self.publisher.finish()
        self._records.inc(count)
        self._flushes.inc()
        self._flush_seconds.observe(self.clock.monotonic() - self._flushed_at)
        self._position.set(self.publisher.position)
        self._lag.set(max(self.clock.now_ns() - self._sent_due, 0) / NS)
        self._progress.update(self.publisher.position, self.clock.monotonic())

    def _read_ahead(self) -> None:
        if self._ahead is not None or self._is_exhausted:
            return
        limit = self.settings.entry_records * self.publisher.shards
        try:
            chunk = (self._detour or self.source).read(limit, LIVE_READ_S if self.source.is_live else 0.0)
        except EndOfSource:
            self._is_exhausted = True
            return
        if chunk is not None:
            due = self.pacer.due(chunk.records) if chunk.records is not None else None
            self._ahead = (chunk, due, 0)

    def _release(self) -> float:
        """Give what is due to the publisher and flush; at the end of the source, end the session."""
        if (left := self._until_floor()) > 0:
            return left  # and then all that is due, as one array
        wait = self._release_due()
        if self._is_exhausted and self._ahead is None:
            self.publisher.finish()
            if self.publisher.buffered:
                self.publisher.flush()
            self.publisher.end("source ended")
            log.info("source ended", feed=self.name, position=self.publisher.position)
            self._finish_source()
            return 0.0
        if not self.publisher.buffered:
            if self._busy:
                self._lag.set(0)
            self._busy = self._was_full = False
            return wait
        self._was_full = self.publisher.buffered >= self.settings.entry_records
        self._wait_seconds.observe(max(self.clock.now_ns() - self._oldest_due, 0) / NS)
        self.publisher.flush()
        self._sent_due, self._oldest_due = self._oldest_due, 0
        self._flushed_at, self._busy = self.clock.monotonic(), True
        return 0.0

    def _until_floor(self) -> float:
        """Seconds until the next flush may be sent."""
        if self._was_full:
            return 0.0
        floor = (self.settings.busy_floor_ms if self._busy else self.settings.floor_ms) / 1000
        return self._flushed_at + floor - self.clock.monotonic()

    def _release_due(self) -> float:
        """Seconds until the next record is due, 0 if unknown."""
        budget = self.settings.entry_records * self.publisher.shards
        while self.publisher.buffered < budget:
            self._read_ahead()
            if self._ahead is None:
                return LIVE_READ_S
            chunk, due, released = self._ahead
            now = self.clock.now_ns()
            if chunk.records is None:
                self.publisher.add(chunk, now)
                self._oldest_due = self._oldest_due or now
                self._ahead = None
                continue
            assert due is not None
            end = int(due.searchsorted(now, side="right")) if due[-1] > now else len(due)
            if end > released:
                start = chunk.position - len(chunk.records)
                ready = Chunk(start + end, chunk.records[released:end], None)
                self._oldest_due = self._oldest_due or int(due[released])
                self.publisher.add(ready, int(due[released]))
            if end < len(due):
                self._ahead = (chunk, due, end)
                return min((int(due[end]) - now) / NS, IDLE_S)
            self._ahead = None
        return 0.0

    def facts(self) -> dict[str, Any]:
        return {
            "feed": self.name,
            "state": self.state,
            "session": self.publisher.session,
            "position": self.publisher.position,
            "total": self.source.total,
            "backlog": self.upkeep.backlog,
            "held_back": self.upkeep.held_back(),
            "limits": self._limits(),
            "dataset": self.source.dataset,
            "live": self.source.is_live,
        }

    def _limits(self) -> dict[str, Any]:
        """What bounds this feed, and how much of it is used: for /readyz and `mbo status`."""
        config, upkeep = self.settings, self.upkeep
        found: dict[str, Any] = {
            "backlog_records": [upkeep.backlog, config.max_backlog],
            "broker_bytes": [upkeep.memory_used, upkeep.memory_limit],
            "marks_bytes": [
                round(upkeep.memory_limit * s) for s in (config.memory_share, config.live_memory_share)
            ],
        }
        if self.feed_back is not None:
            found["feed_back_records"] = self.feed_back.facts()
            found["journal_bytes"] = [self.feed_back.source.journal_size(), config.journal_bytes]
            detour = self._detour  # asked beside the loop, which may end it at any moment
            found["journaled_items"] = detour.given - detour.position if detour else 0
        return found

    def reset(self) -> None:
        """Forget everything but the source; the broker says where to go on."""
        self.state, self._ahead = "starting", None
        if self.feed_back is not None:
            self.feed_back.owned = None
        self.publisher.broker.close()
        self.control.close()

    def release(self) -> None:
        """Send what is buffered and give the feed to a standby."""
        if self.feed_back is not None:
            self.feed_back.owned = None
        if self.state in ("opening", "running", "ended"):
            self.publisher.finish()
            if self.publisher.buffered:
                self.publisher.flush()
                self.publisher.finish()
            self.publisher.lease.release()

    def close(self) -> None:
        self._progress.close()
        if self.feed_back is not None:
            self.feed_back.close()
        if self._opening is None or self._opening.is_over:  # else the process ends without waiting for it
            self.source.close()
        self.publisher.broker.close()
        self.control.close()
