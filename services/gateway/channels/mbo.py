"""`mbo`: a snapshot of the orders in queue order, then every record with its effect."""

from __future__ import annotations

from typing import Any

from services.gateway import encode
from services.gateway.topic import Topic
from shared.records import Rows, joined

RING_BYTES_MBO = 4 * 1024 * 1024


class MboTopic(Topic):
    """The records of one instrument (and publisher), batched by drain."""

    lossless = True
    ring_bytes = RING_BYTES_MBO

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._parts: list[tuple[Rows, Rows]] = []
        self.loaded = self.books.orders_ready  # a snapshot can be made

    def forget(self) -> None:
        self._parts = []
        self.loaded = False

    def take(self, records: Rows, effects: Rows) -> None:
        self._parts.append((records, effects))

    def encode(self, records: Rows, effects: Rows, p: int, q: int, stamps: list[Any]) -> bytes:
        body = {
            **self.head,
            "session": self.books.session,
            "p": p,
            "q": q,
            "n": len(records),
            "stamps": stamps,
        }
        if self.key.columns:
            return encode.numpy_event("mbo", {**body, **encode.mbo_columns(records, effects)})
        return encode.event("mbo", {**body, "rows": encode.mbo_rows(records, effects)})

    def chunk(self, now_ns: int) -> bytes:
        parts, self._parts = self._parts, []
        p, self.q = self.q, self.books.ordinal
        stamps = encode.stamps(self.books.stamps, now_ns)
        if len(parts) == 1:
            return self.encode(*parts[0], p, self.q, stamps)
        records = joined([part[0] for part in parts])
        effects = joined([part[1] for part in parts])
        return self.encode(records, effects, p, self.q, stamps)

    def body(self) -> dict[str, Any]:
        return self.books.orders_body(self.key.instrument_id, self.key.publisher)

    def snapshot(self, now_ns: int) -> bytes:
        if not self.loaded:
            return b""
        stamps = encode.stamps(self.books.stamps, now_ns)
        return encode.event(
            "snapshot", {**self.head, **self.who(), **self.body(), "q": self.q, "stamps": stamps}
        )
