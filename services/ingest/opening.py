"""A source on its way to where it must go on.

Far into a file or a simulated market that takes longer than a lease: the loop renews leases meanwhile, of this feed and
of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from services.ingest.sources.base import Source

PATIENCE_S = 0.05  # what the loop waits for a source that is there at once, as most are


class Opening:
    """Opens a source in a thread. Nobody else may use the source until `is_over`."""

    def __init__(self, source: Source, position: int, spec: Mapping[str, Any]) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._open, args=(source, position, spec), name="opening", daemon=True
        )
        self._thread.start()
        self._thread.join(PATIENCE_S)

    def _open(self, source: Source, position: int, spec: Mapping[str, Any]) -> None:
        try:
            source.open(position, spec)
        except Exception as error:  # noqa: BLE001 - raised in the loop, by `check`
            self._error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise what `open` raised."""
        if self._error is not None:
            raise self._error
