"""A source made of arrays, for tests of what comes behind sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.ingest.sources.base import Chunk, EndOfSource
from shared.records import Rows


class ArraySource:
    """Items are records and controls in a list; positions count both."""

    is_live = False

    def __init__(
        self, items: list[Rows | dict[str, Any]], *, dataset: str = "TEST", identity: str = "one"
    ) -> None:
        self.dataset, self.identity = dataset, identity
        self.spec: Mapping[str, Any] = {"kind": "array"}
        self._items = items
        self._position = 0
        self._end = sum(self._size(item) for item in items)
        self.total: int | None = self._end
        self.opened: list[int] = []

    @staticmethod
    def _size(item: Rows | dict[str, Any]) -> int:
        return 1 if isinstance(item, dict) else len(item)

    @property
    def has_more(self) -> bool:
        return self._position < self._end

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        self.opened.append(position)
        self._position = position

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        begin = 0
        for item in self._items:
            size = self._size(item)
            if self._position < begin + size:
                if isinstance(item, dict):
                    self._position += 1
                    return Chunk(self._position, None, item)
                part = item[self._position - begin :][:limit]
                self._position += len(part)
                return Chunk(self._position, part, None)
            begin += size
        raise EndOfSource

    def close(self) -> None:
        pass


class JournaledArray(ArraySource):
    """The same as a live source with a journal that keeps everything from position `kept` on."""

    is_live = True
    kept = 0

    @property
    def position(self) -> int:
        return self._position

    def read(self, limit: int, timeout_s: float = 0.0) -> Chunk | None:
        return super().read(limit, timeout_s)

    def reread(self, position: int, spec: Mapping[str, Any]) -> JournaledArray | None:
        if position < self.kept:
            return None
        again = JournaledArray(self._items, dataset=self.dataset, identity=self.identity)
        again.open(position, spec)
        return again

    def claim(self, token: str, writers: set[str]) -> None:
        pass

    def journal_size(self) -> int:
        return 0
