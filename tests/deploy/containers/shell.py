"""Commands, and waiting for what they should bring about; every line says when."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

began = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)


def sh(*command: str, env: dict[str, str] | None = None, check: bool = True, cwd: Path | None = None) -> str:
    """Run a command; its output. Ends the run with what it said if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise SystemExit(
            f"{' '.join(command)[:200]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
    return done.stdout


def until(what: str, probe: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """What `probe` says once it says something; the seconds it took are part of the report."""
    start = time.monotonic()
    while time.monotonic() - start < timeout_s:
        if found := probe():
            say(f"{what}: after {time.monotonic() - start:.1f} s")
            return found
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within {timeout_s:.0f} s")
