"""The thread that encodes, compresses and stages book images beside the hot path."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from shared import logs
from shared.broker import Broker
from shared.images import Staged, stage

log = logs.get("book")

MAX_WAITING = 512  # images; a shard that finds the queue full tries again at its next turn


class ImageWriter:
    """A thread that encodes, compresses and stages images; results are picked up by the worker's loop."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._jobs: queue.Queue[tuple[Any, str, str, float, Callable[[], bytes]] | None] = queue.Queue(
            maxsize=MAX_WAITING
        )
        self._done: queue.Queue[tuple[Any, Staged | None]] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="images", daemon=True)
        self._thread.start()

    def submit(self, owner: Any, key: str, offset: str, at: float, encode: Callable[[], bytes]) -> bool:
        """Have `encode()` (runs in the thread) staged under `key`; False if the thread is behind."""
        try:
            self._jobs.put_nowait((owner, key, offset, at, encode))
        except queue.Full:
            return False
        return True

    def done(self) -> list[tuple[Any, Staged | None]]:
        """What has been staged since; None where it failed (logged)."""
        found = []
        while True:
            try:
                found.append(self._done.get_nowait())
            except queue.Empty:
                return found

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            owner, key, offset, at, encode = job
            try:
                staged: Staged | None = stage(self._broker, key, offset, at, encode())
            except Exception as error:  # noqa: BLE001 - without this thread nothing is trimmed: it must go on
                log.limited("image not staged", detail=repr(error), offset=offset)
                staged = None
            self._done.put((owner, staged))

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(5)
        self._broker.close()
