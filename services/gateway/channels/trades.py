"""`trades`: every trade, in order of (end, ordinal)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.gateway import encode
from services.gateway.topic import Topic


class TradesTopic(Topic):
    """TRADE rows (as `rows.tolist()` gives them) until they are said."""

    lossless = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._rows: list[tuple[int, ...]] = []

    def forget(self) -> None:
        self._rows = []

    def take(self, row: tuple[int, ...]) -> None:
        self._rows.append(row)

    def encode(self, rows: Iterable[tuple[int, ...]], stamps: list[Any], session: int) -> bytes:
        return b"".join(
            encode.event("trade", {**self.head, **encode.trade(row, session), "stamps": stamps})
            for row in rows
        )

    def chunk(self, now_ns: int) -> bytes:
        rows, self._rows = self._rows, []
        self.q = self.books.ordinal
        return self.encode(rows, encode.stamps(self.books.stamps, now_ns), self.books.session)
