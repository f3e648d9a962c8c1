"""`python -m tests.benchmarks.pace`: what this machine's cores are worth just now.

A virtual core is a thread of a core whose other thread may work for someone else: the same loop then takes half as long
again, and so does everything that is measured. So a run counts by what a fixed loop took, on every core at once, right
before it and right after.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

ROUNDS = 20
DISTURBED = 1.25  # times the best pace seen: another has the rest of a core
TRIES = 3  # for each run that is wanted

T = TypeVar("T")


class Paced(NamedTuple, Generic[T]):
    """A result, and the worst pace of a core around it, ms."""

    pace: float
    result: T


def loop_ms() -> float:
    """The median CPU time of a fixed piece of interpreter work."""
    took = []
    for _ in range(ROUNDS):
        start = time.process_time()
        counts: dict[int, int] = {}
        for number in range(120_000):
            key = number * 7919 % 4093
            counts[key] = counts.get(key, 0) + 1
        sorted(counts.items(), key=lambda item: item[1])
        took.append((time.process_time() - start) * 1e3)
    return sorted(took)[ROUNDS // 2]


def paces() -> list[float]:
    """`loop_ms` of every core, all at once."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "tests.benchmarks.pace"]
    running = [subprocess.Popen([*command, str(core)], stdout=subprocess.PIPE, text=True) for core in cores]
    return [float(process.communicate()[0]) for process in running]


def undisturbed(run: Callable[[], T | None], wanted: int) -> list[Paced[T]]:
    """Results of all runs by pace, the best first: until `wanted` were undisturbed, or for TRIES times as many runs.

    What a run measured has no say in it. Empty once a run has failed and gives None.
    """
    found: list[Paced[T]] = []
    best = float("inf")
    for _ in range(wanted * TRIES):
        before = paces()
        result = run()
        if result is None:
            return []
        after = paces()
        best = min(best, *before, *after)
        found.append(Paced(max(*before, *after), result))
        if sum(one.pace <= DISTURBED * best for one in found) >= wanted:
            break
    return sorted(found, key=lambda one: one.pace)


def main() -> int:
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
        print(loop_ms())
    else:
        print(" and ".join(f"{pace:.1f}" for pace in paces()), "ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
