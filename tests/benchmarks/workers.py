"""`python -m tests.benchmarks.workers`: CPU-seconds a million records with 1, 2, 4 and 8 book workers, and their ratio.

Each count is one `mbo bench pipeline`, which checks its end state; rounds go through all counts in turn, so that a
change of the machine's mood meets all of them. Budget: flat within 30 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys


def measure(books: int, args: argparse.Namespace) -> float:
    command = [
        sys.executable, "-m", "services", "bench", "pipeline", "--json", "--books", str(books), "--shards", "8",
        "--rate", args.rate, "--seconds", str(args.seconds), "--records", str(args.records),
    ]  # fmt: skip
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(said.splitlines()[-1])
    assert found["state_ok"], f"wrong end state with {books} workers"
    return float(found["cpu_s_per_million"]["total"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.workers", description=__doc__)
    parser.add_argument("--books", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", default="max", help="records a second, or max")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--records", type=int, default=4_000_000, help="of a run at max")
    args = parser.parse_args()
    found: dict[int, list[float]] = {books: [] for books in args.books}
    for _ in range(args.rounds):
        for books in args.books:
            found[books].append(measure(books, args))
            print(
                f"{books} workers: {found[books][-1]:.3f} CPU-s a million records",
                file=sys.stderr,
                flush=True,
            )
    medians = {books: statistics.median(costs) for books, costs in found.items()}
    print(json.dumps({
        "cpu_s_per_million": {str(books): round(cost, 3) for books, cost in medians.items()},
        "spread": {str(books): [round(min(costs), 3), round(max(costs), 3)] for books, costs in found.items()},
        "ratio": round(max(medians.values()) / min(medians.values()), 3),
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
