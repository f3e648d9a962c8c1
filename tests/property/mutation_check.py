"""`make mutants`: break the kernel in a dozen ways; the order book tests must fail for each of them.

Every mutant is a copy of the code with one change, compiled and tested in a folder of its own. The copy without a
change must pass, so a failure is due to the change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
KERNEL = "shared/orderbook/kernel.py"
TESTS = (
    "tests/unit/orderbook",
    "tests/property/orderbook/test_engines.py",
    "tests/property/orderbook/test_uncross.py",
)
PARTS = ("shared", "tests/__init__.py", "tests/support", "tests/unit/__init__.py", "tests/unit/orderbook",
         "tests/property/__init__.py", "tests/property/orderbook", "pyproject.toml")  # fmt: skip
EXAMPLES = "150"


class Mutant(NamedTuple):
    rule: str  # what is broken
    old: str
    new: str


MUTANTS = (
    Mutant(
        "priority: a smaller modify loses its place", "why or size > had or px", "why or size < had or px"
    ),
    Mutant(
        "partial cancel: the size is set, not subtracted",
        "EFFECT_REDUCED, idx, had - size",
        "EFFECT_REDUCED, idx, size",
    ),
    Mutant(
        "F_LAST: nothing is held back", "if o > books[U(b + APPLY)] and not fake:", "if o < 0 and not fake:"
    ),
    Mutant(
        "sides: bids and asks mixed up",
        "side = 0 if letter == SIDE_BID else 1 if letter == SIDE_ASK",
        "side = 1 if letter == SIDE_BID else 0 if letter == SIDE_ASK",
    ),
    Mutant(
        "snapshot: its levels are published before it ends",
        "if books[U(b + STATE)] & IN_SNAPSHOT:",
        "if books[U(b + STATE)] & IN_SNAPSHOT == 99:",
    ),
    Mutant(
        "unknown modify: ignored instead of added",
        "effect, new_size, after, keep = EFFECT_ADDED, size, size, True",
        "effect, after = EFFECT_ADDED, size",
    ),
    Mutant("BBO: a changed order count is not a change", " or books[U(at + 2)] != count", ""),
    Mutant("auction: surplus is not looked at", "surplus < least", "surplus < 0"),
    Mutant(
        "auction: kept although a level has changed",
        "meets and state & MOVED",
        "meets and state & MOVED == 99",
    ),
    Mutant("chunks: the upper half of a split is not used", "if pos > CAP // 2:", "if pos > CAP:"),
    Mutant(
        "chunks: an empty one stays at the top",
        "na + nz <= CAP // 2 or na == 0 or nz == 0",
        "na + nz <= CAP // 2",
    ),
    Mutant(
        "level rows: a level that went and came back is told twice",
        "levels4[U(lv * 8 + L_DIRTY)] = at",
        "levels4[U(lv * 8 + L_DIRTY)] = 0",
    ),
    Mutant(
        "refill: fills of earlier events count",
        "fills[U(idx)] == books[U(b + EVENT_NO)]",
        "fills[U(idx)] != 0",
    ),
    Mutant("execute: executed size is not taken from the rest", "left -= had", "left -= 1"),
)


def _copy(folder: Path, mutant: Mutant | None) -> None:
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    if mutant is not None:
        path = folder / KERNEL
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            raise SystemExit(
                f"{mutant.rule}: {mutant.old!r} is {text.count(mutant.old)} times in the kernel, not once"
            )
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def _passes(mutant: Mutant | None) -> bool:
    """Whether the tests pass on a copy with this change."""
    with tempfile.TemporaryDirectory(prefix="mbo-mutant-") as name:
        folder = Path(name)
        _copy(folder, mutant)
        env = {
            **os.environ,
            "NUMBA_CACHE_DIR": f"{name}/cache",
            "MBO_PROPERTY_EXAMPLES": EXAMPLES,
            "PYTHONPATH": name,
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            *TESTS,
        ]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False).returncode == 0


def main(argv: Sequence[str] = ()) -> int:
    """`argv`: words of the rules to try; none: all."""
    if not _passes(None):
        print("the tests fail without any change: mend that first")
        return 1
    survivors, chosen = (
        0,
        [mutant for mutant in MUTANTS if not argv or any(word in mutant.rule for word in argv)],
    )
    for mutant in chosen:
        began = time.monotonic()
        survived = _passes(mutant)
        survivors += survived
        print(
            f"{'SURVIVED' if survived else 'killed  '} {mutant.rule} ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
