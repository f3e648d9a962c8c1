"""The reader process ends with its parent, in whatever moment that goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("goes_by", ["its pipes", "SIGTERM"])
def test_a_parent_that_goes_while_the_reader_starts_leaves_no_traceback(
    broker_url: str, prefix: str, tmp_path: Path, goes_by: str
) -> None:
    given: dict[str, object] = {
        "data": str(tmp_path), "broker": broker_url, "prefix": prefix, "password": None, "host": "127.0.0.1", "port": 0,
        "url": "", "token": "secret-of-this-test", "log": "json", "log_level": "info", "feeds": [],
    }  # fmt: skip
    reader = subprocess.Popen(
        [sys.executable, "-m", "services.persist.history"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert reader.stdin is not None
    assert reader.stdout is not None
    assert reader.stderr is not None
    if goes_by == "its pipes":
        reader.stdout.close()
        reader.stdin.write(json.dumps(given).encode() + b"\n")
        reader.stdin.close()
    else:
        reader.stdin.write(json.dumps(given).encode() + b"\n")
        reader.stdin.flush()
        assert reader.stdout.readline().startswith(b"http://")
        reader.terminate()
    said = reader.stderr.read().decode()
    assert reader.wait(30) == 0, said
    assert "Traceback" not in said
    assert "Fatal" not in said
    for pipe in (reader.stdin, reader.stdout, reader.stderr):
        pipe.close()
