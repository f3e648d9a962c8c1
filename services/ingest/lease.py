"""The lease of a feed: one process feeds it, others stand by (docs/exactly-once.md)."""

from __future__ import annotations

import secrets

from shared import logs, metrics
from shared.broker import Broker
from shared.errors import Fenced

log = logs.get("ingest")


class Waiting(Exception):
    """Another ingest owns the feed: stand by."""


class FeedLease:
    """`token` names the owner and its epoch in every append; "" while the feed is not ours."""

    def __init__(self, broker: Broker, feed: str, owner: str, lease_ms: int) -> None:
        self._broker, self._feed, self._owner, self._lease_ms = broker, feed, owner, lease_ms
        self.token = ""

    def take(self) -> None:
        """Raises Waiting if another holds it."""
        reply = self._ask("take", secrets.token_hex(8))
        if reply[0] == b"HELD":
            raise Waiting(f"feed {self._feed} is owned by {reply[1].decode()}")
        self.token = reply[1].decode()
        self._broker.call("SADD", self._broker.keys.feeds, self._feed)
        log.info("feed taken", feed=self._feed, token=self.token.split(":")[0])

    def renew(self) -> None:
        """Heartbeat; raises Fenced if the feed has another owner."""
        if self._ask("renew", self.token)[0] != b"OK":
            raise self.lost(f"feed {self._feed} has another owner now")

    def release(self) -> None:
        """Give the feed up at once, for a standby."""
        if self.token:
            self._ask("release", self.token)
            self.token = ""

    def lost(self, text: str, **facts: int) -> Fenced:
        """The error to raise when somebody else writes, counted."""
        metrics.get("mbo_ingest_fenced_total").labels(self._feed).inc()
        return Fenced(text, feed=self._feed, **facts)

    def _ask(self, verb: str, text: str) -> list[bytes]:
        key = self._broker.keys.feed(self._feed, "lease")
        return list(
            self._broker.call(*self._broker.script("lease", [key], [verb, self._owner, text, self._lease_ms]))
        )
