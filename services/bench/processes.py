"""The processes that are measured: their CPU time and memory, which CPUs they may use, a gateway of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from shared.errors import MboError

START_S = 60.0
T = TypeVar("T")
TICK_S = os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICK_S


def rss_bytes(pid: int) -> int:
    return int(_fields(pid)[21]) * os.sysconf("SC_PAGE_SIZE")


def pin(pid: int, cpus: Sequence[int]) -> None:
    """Every thread of a process to these CPUs."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(task.name), cpus)


def until(ask: Callable[[], T], what: str, *, timeout_s: float = START_S, every_s: float = 0.02) -> T:
    """The first answer that is not false; MboError `what` if none came. A refused connection is none."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if answer := ask():
                return answer
        time.sleep(every_s)
    raise MboError(what)


class Gateway:
    """One gateway process."""

    def __init__(self, url: str, options: Sequence[str]) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MBO_")}
        command = [
            sys.executable,
            "-m",
            "services.gateway",
            "--broker",
            url,
            "--port",
            "0",
            "--log",
            "json",
            "--drain-spread-s",
            "0",
            *options,
        ]
        self.process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.port = self.admin = ""
        for line in self.process.stderr:
            row = json.loads(line) if line.startswith("{") else {}
            self.admin = row.get("admin", self.admin)
            if row.get("event") == "serving":
                self.port = row["address"].rsplit(":", 1)[1]
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        until(self._ready, "the gateway did not become ready")

    def _ready(self) -> bool:
        with urllib.request.urlopen(f"{self.admin}/readyz", timeout=2) as answer:  # noqa: S310 - our own admin port
            return bool(json.load(answer)["data_age_ms"] is not None)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
