"""What a live source gave out, for the tests of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from services.ingest.sources.live import LiveSource
from shared.records import MBO, Rows
from tests.integration.sources.conftest import SYMBOLS
from tests.support import eventually

Make = Callable[..., LiveSource]
CONTROLS = 2 * len(SYMBOLS)  # a mapping and a definition each


class Taken:
    """What a source gave out so far."""

    def __init__(self, source: LiveSource, position: int = 0, spec: Any = None) -> None:
        self.source, self.position = source, position
        self.rows: list[Rows] = []
        self.controls: list[dict[str, Any]] = []
        self._places: list[int] = []  # records before each of them
        source.open(position, spec or source.spec)

    def more(self) -> None:
        chunk = self.source.read(5000, 0.01)
        if chunk is None:
            return
        size = 1 if chunk.records is None else len(chunk.records)
        assert chunk.position == self.position + size
        self.position = chunk.position
        if chunk.records is not None:
            self.rows.append(chunk.records)
        else:
            assert chunk.control is not None
            self.controls.append(dict(chunk.control))
            self._places.append(sum(map(len, self.rows)))

    @property
    def records(self) -> Rows:
        return np.concatenate(self.rows) if self.rows else np.empty(0, MBO)

    def read_on(self, until: Callable[[], object], *, timeout_s: float = 20.0) -> None:
        def holds() -> bool:
            self.more()
            return bool(until())

        eventually(holds, timeout_s=timeout_s, every_s=0)

    def until(self, count: int) -> Taken:
        self.read_on(lambda: sum(map(len, self.rows)) >= count, timeout_s=30)
        return self

    def recovers(self) -> None:
        """There was one gap, and after it the books were made whole once."""
        self.read_on(lambda: self.controls[-1]["type"] == "recovered")
        said = [each["type"] for each in self.controls if each["type"] in ("gap", "recovered")]
        assert said == ["gap", "recovered"]

    def places(self, kind: str) -> list[int]:
        """How many records came before each control of a kind."""
        return [
            place for each, place in zip(self.controls, self._places, strict=True) if each["type"] == kind
        ]

    def gaps(self) -> list[dict[str, Any]]:
        return [each for each in self.controls if each["type"] == "gap"]


def same(first: Rows, second: Rows) -> bool:
    return first.tobytes() == second.tobytes()
