"""A live feed past the broker's last mark: what comes goes to the journal only, and from there on once there is room.

Live cannot be held back at its source, and a full broker could not even take the commits that would empty it. So the
journal, which has everything first anyway, stands between for a while; nothing is lost while it has room.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from services.ingest.sources.base import Chunk, EndOfSource, Journaled, Reread, Source
from shared import logs, metrics

log = logs.get("ingest")

LIVE_READ_S = 0.001
LAST_ITEMS = 100_000  # so near to the end the source is left alone until the journal has been read to it


class Detour:
    """In the place of a live source, from the item it gave out last, until `is_over`: then the source itself again."""

    def __init__(self, feed: str, source: Source, spec: Mapping[str, Any], position: int, given: int) -> None:
        """`position`: taken by the publisher; `given`: the source has given out, so that the journal has it."""
        self.feed, self.source, self.spec = feed, source, spec
        self.position, self.given = position, given
        self.is_over = False
        self._reread: Reread | None = None
        self._gauge = metrics.get("mbo_ingest_journaled_items").labels(feed)
        log.warning("broker nearly full: live goes to the journal only", feed=feed, position=position)

    def journal(self, limit: int) -> None:
        """Let the source write down what has come."""
        with contextlib.suppress(EndOfSource):  # it says so again when it is read itself
            chunk = self.source.read(limit, LIVE_READ_S)
            if chunk is not None:
                self.given = chunk.position
        self._gauge.set(self.given - self.position)

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        """The next items of the journal, never beyond what the source gave out; None at the end or if it must be asked
        again. If the journal has lost them, the source says what that means (a gap)."""
        if self.given - self.position > LAST_ITEMS:
            self.journal(limit)
        left = self.given - self.position
        if left == 0:
            self._end()
            return None
        if self._reread is None:
            assert isinstance(self.source, Journaled)
            self._reread = self.source.reread(self.position, self.spec)
            if self._reread is None:
                self.source.open(self.position, self.spec)
                self._end()
                return None
        try:
            chunk = self._reread.read(min(limit, left))
        except EndOfSource:  # of what there was when it was opened
            chunk = None
        if chunk is None:
            self._reread = None
            return None
        self.position = chunk.position
        return chunk

    def _end(self) -> None:
        self.is_over = True
        self._gauge.set(0)
        log.info("live goes on from the source", feed=self.feed, position=self.position)
