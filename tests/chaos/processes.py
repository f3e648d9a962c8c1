"""The processes of a running `mbo up`, by role, and what can be done to them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    pid: int
    role: str


def _cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(text) for text in task.read_text().split()]
        except OSError:
            continue
    return found


def _role(command: str) -> str | None:
    if "valkey-server" in command or "redis-server" in command:
        return "broker"
    for role in ("history", "recall", "ingest", "book", "persist", "gateway"):
        if f"services.{role}" in command or f"{role}.py" in command or f".{role} " in command:
            return role
    return None


def running(launcher_pid: int) -> list[Process]:
    """Children and grandchildren of the launcher whose role is known."""
    found: list[Process] = []
    todo = _children(launcher_pid)
    while todo:
        pid = todo.pop()
        role = _role(_cmdline(pid))
        if role is not None:
            found.append(Process(pid, role))
        todo += _children(pid)
    return found


def owner_of(pid: int) -> str:
    """The name a service process was given for its leases."""
    words = _cmdline(pid).split()
    return words[words.index("--owner") + 1] if "--owner" in words else ""


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
