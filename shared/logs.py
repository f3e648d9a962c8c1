"""Logs: one line an event on stderr, a fixed event name plus fields; JSON, or readable text on a terminal."""

from __future__ import annotations

import json
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, TextIO

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_lock = threading.Lock()
_least = 20
_as_json = True
_stream: TextIO | None = None
_context: dict[str, Any] = {}


def setup(format: str = "auto", level: str = "info", *, stream: TextIO | None = None, **context: Any) -> None:  # noqa: A002
    """Choose format and level once a process; `context` fields (service, pid …) stand in every line."""
    global _least, _as_json, _stream
    _stream = stream
    _least = _LEVELS[level]
    _as_json = format == "json" or (format == "auto" and not (stream or sys.stderr).isatty())
    _context.update(context)


def _write(level: str, name: str, event: str, fields: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    if _as_json:
        line = {"ts": now.isoformat(timespec="microseconds"), "level": level, "log": name, "event": event}
        text = json.dumps({**line, **_context, **fields}, default=str)
    else:
        details = " ".join(f"{key}={value}" for key, value in fields.items())
        text = (
            f"{now:%H:%M:%S.%f}"[:-3]
            + f" {level:<7} {_context.get('service', name)}: {event} {details}".rstrip()
        )
    with _lock:
        print(text, file=_stream or sys.stderr, flush=True)


class Log:
    """A named logger."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._seen: dict[str, tuple[float, int]] = {}

    def _emit(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if _LEVELS[level] >= _least:
            _write(level, self.name, event, fields)

    def debug(self, event: str, **fields: Any) -> None:
        self._emit("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._emit("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._emit("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._emit("error", event, fields)

    def limited(self, event: str, every_s: float = 5.0, **fields: Any) -> None:
        """A warning at most once in `every_s` seconds; the next one says how many were left out."""
        now = time.monotonic()
        last, left_out = self._seen.get(event, (-every_s, 0))
        if now - last < every_s:
            self._seen[event] = (last, left_out + 1)
            return
        self._seen[event] = (now, 0)
        self._emit("warning", event, {**fields, "repeats": left_out} if left_out else fields)


def get(name: str) -> Log:
    return Log(name)
