"""Find the tools that deployment checks run; without one a test skips by name, in CI it fails.

`CI_WITHOUT` names what a CI machine could not install and said so: `.ci/run` sets it for a kubectl that is too old.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FROM = {
    "promtool": "apt install prometheus", "prometheus": "apt install prometheus",
    "amtool": "apt install prometheus-alertmanager", "prometheus-alertmanager": "apt install prometheus-alertmanager",
    "kubectl": "1.21 or newer: older ones cannot build kustomize components",
    "redis-server": "apt install redis-server", "openssl": "apt install openssl",
    "jq": "apt install jq",
}  # fmt: skip


def tool(name: str) -> str:
    """Path of a command: of this venv, else of the system."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is not None and name == "kubectl" and not builds_components(found):
        found = None
    if found is None:
        where = FROM.get(name, "make install")
        if os.environ.get("CI") and name not in os.environ.get("CI_WITHOUT", "").split():
            pytest.fail(f"CI must have {name} ({where})")
        pytest.skip(f"{name} is not installed ({where})")
    return found


@cache
def builds_components(kubectl: str) -> bool:
    """Whether its kustomize knows components: from kubectl 1.21 on (Debian 12's is 1.20)."""
    said = subprocess.run(
        [kubectl, "version", "--client", "-o", "json"], capture_output=True, check=False
    ).stdout
    try:
        version = json.loads(said)["clientVersion"]
        return (int(version["major"]), int(version["minor"].rstrip("+"))) >= (1, 21)
    except (ValueError, KeyError):
        return False


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
