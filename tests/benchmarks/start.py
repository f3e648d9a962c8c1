"""`python -m tests.benchmarks.start [--runs N]`: seconds from `mbo demo` to a book in an SSE client.

Budget: under 10 s on a machine that has never run it (`--cold`: compiled code is thrown away), under 4 s afterwards.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.support.pipeline import ADDRESS

TIMEOUT_S = 120.0
RETRY_S = 0.02


def once(folder: Path, env: dict[str, str]) -> float:
    """Start the demo, wait for the first snapshot of a book, stop it."""
    command = [sys.executable, "-m", "services", "demo", "--data", str(folder / "data"), "--port", "0"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True)
    try:
        assert process.stdout is not None
        address = next(found[1] for line in process.stdout if (found := ADDRESS.search(line)))
        while not _has_book(address):  # its instruments are a moment away
            time.sleep(RETRY_S)
        return time.monotonic() - began
    finally:
        process.terminate()
        process.wait(60)


def _has_book(address: str) -> bool:
    query = {"symbols": "ALL_SYMBOLS", "channels": "book"}
    with httpx.stream("GET", f"{address}/v1/stream", params=query, timeout=TIMEOUT_S) as answer:
        return any(line == "event: snapshot" for line in answer.iter_lines())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.start", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="compile everything anew in each run")
    args = parser.parse_args()
    seconds = []
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory(prefix="mbo-start-") as folder:
            cache = {"NUMBA_CACHE_DIR": f"{folder}/numba"} if args.cold else {}
            seconds.append(once(Path(folder), {**os.environ, **cache}))
        print(f"{seconds[-1]:.2f} s", flush=True)
    print(f"median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
