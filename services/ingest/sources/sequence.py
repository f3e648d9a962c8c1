"""Give out an iterator of items in bounded chunks, counted from 0.

What file and simulator sources have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.ingest.sources.base import Chunk, EndOfSource
from shared.records import Rows

Control = dict[str, Any]
Item = Rows | Control | None  # None: nothing there yet, ask again


class Sequence:
    """Items of `iterator` as chunks of at most a limit; a position is the number of items before it."""

    def __init__(self, iterator: Iterator[Item]) -> None:
        self._iterator = iterator
        self._rest: Rows | None = None
        self.position = 0

    def _next(self) -> Item:
        if self._rest is not None:
            item, self._rest = self._rest, None
            return item
        try:
            return next(self._iterator)
        except StopIteration:
            raise EndOfSource from None

    def skip(self, position: int) -> bool:
        """Pass over items up to `position`; False if the source has fewer."""
        while self.position < position:
            try:
                item = self._next()
            except EndOfSource:
                return False
            if item is None:
                return False
            if isinstance(item, dict):
                self.position += 1
                continue
            n = min(len(item), position - self.position)
            self.position += n
            if n < len(item):
                self._rest = item[n:]
        return True

    def read(self, limit: int) -> Chunk | None:
        """The next items; None if none are there yet. Raises EndOfSource, and what the iterator raises."""
        item = self._next()
        if item is None:
            return None
        if isinstance(item, dict):
            self.position += 1
            return Chunk(self.position, None, item)
        if len(item) > limit:
            item, self._rest = item[:limit], item[limit:]
        self.position += len(item)
        return Chunk(self.position, item, None)
