"""`status`: halt, auction, open, stale, gap, ended; each event is the whole state."""

from __future__ import annotations

from typing import Any

from services.gateway import encode
from services.gateway.channels.book import auction
from services.gateway.topic import Topic


class StatusTopic(Topic):
    """The state of one instrument."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._last: dict[str, Any] = {}
        self.forget()

    def forget(self) -> None:
        self._last = self._read()

    def _read(self) -> dict[str, Any]:
        status = self.books.status(self.key.instrument_id)
        return {**status, "auction": auction(status["auction"])}

    def chunk(self, now_ns: int) -> bytes:
        fresh = self._read()
        if fresh == self._last:
            return b""
        self._last, self.q = fresh, self.books.ordinal
        return self.snapshot(now_ns)

    def snapshot(self, now_ns: int) -> bytes:
        return encode.event("status", {**self.head, "session": self.books.session, "q": self.q, **self._last})
