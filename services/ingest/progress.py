"""Progress of a replay: a bar on a terminal (rate, share, time left), a plain line now and then otherwise."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from shared import logs

log = logs.get("ingest")
LINE_EVERY_S = 5.0


class FeedProgress:
    """One feed's progress; `total` None shows only the rate."""

    def __init__(self, feed: str, total: int | None) -> None:
        self.feed, self.total = feed, total
        self._last = (0.0, 0)
        self._bar: Progress | None = None
        self._task: Any = None
        if sys.stderr.isatty() and total:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(feed, total=total, rate="")
            self._bar.start()

    def update(self, position: int, now: float) -> None:
        """Show `position` items done at monotonic time `now`; cheap when it is not yet time."""
        then, before = self._last
        every = 0.25 if self._bar else LINE_EVERY_S
        if now - then < every:
            return
        rate = (position - before) / (now - then) if then else 0.0
        self._last = (now, position)
        if self._bar is not None:
            self._bar.update(self._task, completed=position, rate=f"{rate:,.0f}/s")
        elif then:
            share = {"share": f"{position / self.total:.1%}"} if self.total else {}
            log.info("progress", feed=self.feed, position=position, per_second=round(rate), **share)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
