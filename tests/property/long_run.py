"""`python -m tests.property.long_run --minutes M --seed S`: the engines' property test on as many record lists as fit.

Rounds of 2,000 lists, each with a seed of its own, until the time is up; prints how many lists have passed. A failure
ends it, with hypothesis' shrunk example (put it into test_engines.py).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence

ROUND = 2000
TEST = "tests/property/orderbook/test_engines.py"
NAME = "test_kernel_and_reference_agree_on_any_records_in_any_batches"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next ones count up")
    args = parser.parse_args(argv)
    began, passed, seed = time.monotonic(), 0, args.seed
    while True:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=0",
                   f"--hypothesis-seed={seed}", f"{TEST}::{NAME}"]  # fmt: skip
        env = {**os.environ, "MBO_PROPERTY_EXAMPLES": str(ROUND)}
        if subprocess.run(command, env=env, check=False, stdout=subprocess.DEVNULL).returncode:
            print(f"seed {seed} fails: MBO_PROPERTY_EXAMPLES={ROUND} {' '.join(command[1:])}")
            return 1
        passed, seed = passed + ROUND, seed + 1
        spent = time.monotonic() - began
        print(f"{passed:,} lists passed in {spent:.0f} s, seeds {args.seed} to {seed - 1}", flush=True)
        if spent + spent / (passed / ROUND) > args.minutes * 60:
            return 0


if __name__ == "__main__":
    raise SystemExit(main())
