"""Find the tools that deployment checks run; without one a test skips by name, in CI it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FROM = {
    "promtool": "apt install prometheus", "prometheus": "apt install prometheus",
    "amtool": "apt install prometheus-alertmanager", "prometheus-alertmanager": "apt install prometheus-alertmanager",
    "kubectl": "apt install kubectl", "redis-server": "apt install redis-server", "openssl": "apt install openssl",
    "jq": "apt install jq",
}  # fmt: skip


def tool(name: str) -> str:
    """Path of a command: of this venv, else of the system."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        where = FROM.get(name, "make install")
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {name} ({where})")
        pytest.skip(f"{name} is not installed ({where})")
    return found


def run(name: str, *args: str, cwd: Path = ROOT) -> str:
    """Run a tool; its output. Fails the test, with all it said, if it exits with another status than 0."""
    done = subprocess.run(
        [tool(name), *args], cwd=cwd, capture_output=True, text=True, timeout=280, check=False
    )
    if done.returncode:
        pytest.fail(
            f"{name} {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}",
            pytrace=False,
        )
    return done.stdout
