"""The ingest process: one Feed a source, driven in turn."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from services.ingest.feed import Feed
from services.ingest.settings import IngestSettings
from services.ingest.sources.factory import make_sources
from services.ingest.sources.options import HISTORICAL, LIVE
from shared import locks, logs
from shared.broker import Broker
from shared.clock import Clock, SystemClock
from shared.errors import UsageError
from shared.wire.keys import feed_name

log = logs.get("ingest")


class IngestService:
    """See services/ingest/README.md."""

    role = "ingest"

    def __init__(self, config: IngestSettings, clock: Clock | None = None) -> None:
        self.settings = config
        self.clock: Clock = clock or SystemClock()
        self._lock = hold_data(config.data) if keeps_files(config) else None
        sources = make_sources(config.source_options())
        if config.feed and len(sources) > 1:
            names = ", ".join(source.dataset for source in sources)
            raise UsageError(
                f"--feed names one feed, but the sources are of {len(sources)} datasets ({names})"
            )
        owner, password = config.owner_name(), config.broker_password()
        self.feeds = [
            Feed(source, feed_name(config.feed or source.dataset), config, self.clock, owner, password)
            for source in sources
        ]
        self._probe = Broker(config.broker, config.prefix, name="ingest", password=password)

    def start(self) -> None:
        for line in self._probe.check_settings():
            log.limited("broker setting", every_s=60, detail=line)
        for feed in self.feeds:
            if feed.state == "starting":
                feed.start()

    def step(self) -> bool:
        wait = min(feed.step() for feed in self.feeds)
        if wait > 0:
            self.clock.sleep(min(wait, 0.05))
        return not (self.settings.exit_at_end and all(feed.has_ended for feed in self.feeds))

    def facts(self) -> dict[str, Any]:
        return {"feeds": [feed.facts() for feed in self.feeds]}

    def reset(self) -> None:
        self._probe.close()
        for feed in self.feeds:
            feed.reset()

    def drain(self) -> None:
        for feed in self.feeds:
            feed.release()

    def close(self) -> None:
        for feed in self.feeds:
            feed.close()
        self._probe.close()
        if self._lock is not None:
            self._lock.close()


def keeps_files(config: IngestSettings) -> bool:
    """Whether its source writes below --data: a journal, downloads, the order of watched files."""
    return config.watch or bool({LIVE, HISTORICAL} & set(config.source))


def hold_data(folder: Path) -> IO[str]:
    """One such ingest a folder; UsageError if there is one already."""
    return locks.hold(
        folder / "ingest.lock",
        f"another ingest (pid {{pid}}) keeps its journal or downloads in {folder}: stop it, or choose another "
        "folder with --data",
    )
