"""The reader process as a child of persist: started with its settings on stdin, ended by closing that pipe.

Its first line on stdout is the address it serves on, which may have been any free port.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import select
import subprocess
import sys
import time
from typing import Any

from services.persist.settings import PersistSettings
from shared import logs
from shared.settings import hide_password

log = logs.get("persist")

BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.5, 30.0
STOP_S = 5.0


class ReaderProcess:
    """Keeps one `services.persist.history` process running. The token lives as long as this object."""

    def __init__(self, config: PersistSettings) -> None:
        self._config = config
        self._token = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = BACKOFF_FIRST_S
        self._start_at = 0.0
        self.url: str | None = None  # until it has said one

    def watch(self) -> None:
        """Start it if it does not run; with backoff once it has died. Hear its address once it is up."""
        process, now = self._process, time.monotonic()
        if process is not None:
            if process.poll() is None:
                self._hear(process)
                return
            log.limited("history reader ended", status=process.returncode, retry_s=self._backoff)
            self._retry_later(now)
        if now >= self._start_at:
            try:
                self._start()
            except OSError as error:  # no memory for a process, or it died before it read: recording goes on
                log.limited("history reader not started", detail=str(error), retry_s=self._backoff)
                self._retry_later(now)

    def _retry_later(self, now: float) -> None:
        self._drop()
        self._start_at = now + self._backoff
        self._backoff = min(self._backoff * 2, BACKOFF_MOST_S)

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        if self.url is None and select.select([process.stdout], [], [], 0)[0]:
            self.url = process.stdout.readline().decode().strip() or None

    def _start(self) -> None:
        config = self._config
        given: dict[str, Any] = {
            "data": config.data, "broker": config.broker, "prefix": config.prefix, "password": config.broker_password(),
            "host": config.history_host, "port": config.history_port, "url": config.history_url, "token": self._token,
            "log": config.log, "log_level": config.log_level, "feeds": list(config.feeds),
        }  # fmt: skip
        # settings by stdin: on the command line other users could read the broker's password
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.persist.history"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(given).encode() + b"\n")
        self._process.stdin.flush()
        log.info("history reader started", pid=self._process.pid, broker=hide_password(config.broker))

    def _drop(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process, self.url = None, None

    def close(self) -> None:
        """End it: close its stdin, wait, kill what does not go."""
        process = self._process
        self._drop()
        if process is None:
            return
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
