"""`make screenshots`: a real pipeline with a simulated market, left alone until it has a past, then photographed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.pipeline import Pipeline

HERE = Path(__file__).parent
PAST_S = 150
MARKET = ("--source", "sim", "--speed", "1", "--books", "3", "--shards", "6", "--seed", "7")


def main(names: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder, Pipeline(Path(folder) / "data", *MARKET) as pipeline:
        address = pipeline.address()
        print(f"{address}: waiting {PAST_S} s for a past", flush=True)
        time.sleep(PAST_S)
        command = ["node", "screenshots.mjs", *names]
        return subprocess.run(
            command, cwd=HERE, env={**os.environ, "BASE_URL": address}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
