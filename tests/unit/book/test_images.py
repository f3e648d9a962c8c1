"""The thread that stages images outlives whatever one image brings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.book.images import ImageWriter
from shared.images import Staged
from tests.support import eventually


class NoBroker:
    def call(self, *command: Any) -> None:
        """Takes everything."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def writer() -> Iterator[ImageWriter]:
    made = ImageWriter(NoBroker())  # type: ignore[arg-type]
    yield made
    made.close()


def test_an_image_that_cannot_be_encoded_fails_alone(writer: ImageWriter) -> None:
    """Else no shard of the worker would ever have an image again, and nothing would be trimmed."""

    def broken() -> bytes:
        raise MemoryError

    writer.submit("one", "key", "1-1", 0.0, broken)
    writer.submit("two", "key", "1-2", 0.0, lambda: b"image")
    found: list[tuple[Any, Staged | None]] = []

    def both_done() -> bool:
        found.extend(writer.done())
        return len(found) == 2

    eventually(both_done)
    assert found[0] == ("one", None)
    assert found[1][1] is not None
