"""`trades`: every trade, in order of (end, ordinal)."""

from __future__ import annotations

from typing import Any

from services.gateway import encode, written
from services.gateway.topic import Topic
from shared.records import Rows


class TradesTopic(Topic):
    """TRADE rows, of other instruments and venues too, until those of the view are said."""

    lossless = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = encode.open_event("trade", self.head)
        self._parts: list[Rows] = []

    def forget(self) -> None:
        self._parts = []

    def take(self, rows: Rows) -> None:
        self._parts.append(rows)

    def encode(self, rows: Rows, stamps: list[Any], session: int) -> bytes:
        head, tail = b'%b,"session":%d' % (self._head, session), encode.close_event(stamps)
        return written.trade_events(rows, self.key.instrument_id, self.key.publisher, head=head, tail=tail)

    def chunk(self, now_ns: int) -> bytes:
        parts, self._parts = self._parts, []
        self.q = self.books.ordinal
        said = encode.stamps(self.books.stamps, now_ns)
        return b"".join([self.encode(rows, said, self.books.session) for rows in parts])
