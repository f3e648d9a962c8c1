"""A short run of chaos with every suite: longer ones are `make chaos MINUTES=…`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.timeout(420)
@pytest.mark.parametrize("args", [["--broker", "embedded", "--policy", "execute"], ["--broker", "pair"]])
def test_everything_is_there_once_after_random_faults(args: list[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--minutes",
        "0.25",
        "--seed",
        "7",
        "--instruments",
        "40",
        *args,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=420, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
