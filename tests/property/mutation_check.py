"""`make mutants`: break the kernel in twenty ways; the order book tests must fail for each of them.

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
TESTS = (
    "tests/unit/orderbook",
    "tests/property/orderbook/test_engines.py",
    "tests/property/orderbook/test_uncross.py",
)
PARTS = ("shared", "tests/__init__.py", "tests/support", "tests/unit/__init__.py", "tests/unit/orderbook",
         "tests/property/__init__.py", "tests/property/orderbook", "pyproject.toml")  # fmt: skip
EXAMPLES = "150"
TIMEOUT_S = 600


class Mutant(NamedTuple):
    rule: str  # what is broken
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "priority: a smaller modify loses its place", "kernel", "elif why or size > had or px",
        "elif why or size < had or px",
    ),
    Mutant(
        "partial cancel: the size is set, not subtracted", "kernel",
        "effect, after = I(EFFECT_REDUCED), had - size", "effect, after = I(EFFECT_REDUCED), size",
    ),
    Mutant(
        "F_LAST: nothing is held back", "kernel", "if o > get(book, lo.APPLY) and not fake:", "if o < 0 and not fake:"
    ),
    Mutant(
        "carry: what a snapshot has taken in counts on", "kernel", "open_records -= get(book, lo.OPEN)",
        "open_records -= get(book, lo.OPEN) * 0",
    ),
    Mutant(
        "sides: bids and asks mixed up", "kernel", "I(0) if letter == SIDE_BID else I(1) if letter == SIDE_ASK",
        "I(1) if letter == SIDE_BID else I(0) if letter == SIDE_ASK",
    ),
    Mutant(
        "snapshot: its levels are published before it ends", "kernel",
        "early and get(book, lo.STATE) & lo.IN_SNAPSHOT:",
        "early and get(book, lo.STATE) & lo.IN_SNAPSHOT == 99:",
    ),
    Mutant(
        "snapshot: of what its batch touched before, only one level is published", "kernel",
        "put4(row, 7, get(book, lo.LISTED))", "put4(row, 7, 0)",
    ),
    Mutant(
        "unknown modify: ignored instead of added", "kernel",
        "    else:\n                        effect, after, rests = I(EFFECT_ADDED), size, True",
        "    else:\n                        effect, after = I(EFFECT_ADDED), size",
    ),
    Mutant("BBO: a changed order count is not a change", "kernel", " | I(get(best, 2) != n)", ""),
    Mutant(
        "BBO: only what is strictly better than the best counts", "sides", "I(key >= (get(best, 0) ^ -which))",
        "I(key > (get(best, 0) ^ -which))",
    ),
    Mutant("auction: surplus is not looked at", "crossing", "if surplus < least or (", "if surplus < 0 or ("),
    Mutant(
        "auction: kept although a level has changed", "kernel", "meets and state & lo.MOVED",
        "meets and state & lo.MOVED == 99",
    ),
    Mutant(
        "hint: believed without a look", "sides",
        "if hint >= 0 and n > 0 and get(base, 2 * n - 2) <= key and (hint == 0 or get(base, 2 * n) > key):",
        "if hint >= 0 and n > 0:",
    ),
    Mutant("chunks: the upper half of a split is not used", "sides", "if position > HALF:", "if position > lo.CAP:"),
    Mutant(
        "chunks: an empty one stays at the top", "sides", "if a + b <= HALF or a == 0 or b == 0:", "if a + b <= HALF:"
    ),
    Mutant(
        "queue: who stood behind the first order is lost", "sides", "level + lo.L_HEAD * 4, 0, behind)",
        "level + lo.L_TAIL * 4, 0, behind)",
    ),
    Mutant(
        "table: an order pushed past a forgotten one is lost", "pools", "put(at.table, h, found)", "put(at.table, h, 0)"
    ),
    Mutant(
        "level rows: a level that went and came back is told twice", "pools", "put4(level, lo.L_DIRTY, place)",
        "put4(level, lo.L_DIRTY, 0)",
    ),
    Mutant(
        "refill: fills of earlier events count", "kernel", "get(at.fills, i) == get(book, lo.EVENT_NO)",
        "get(at.fills, i) != 0",
    ),
    Mutant("execute: executed size is not taken from the rest", "sides", "quota -= size", "quota -= 1"),
)  # fmt: skip


def _copy(folder: Path, mutant: Mutant | None) -> None:
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    if mutant is not None:
        path = folder / f"shared/orderbook/{mutant.file}.py"
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            raise SystemExit(
                f"{mutant.rule}: {mutant.old!r} is {text.count(mutant.old)} times in {mutant.file}.py, not once"
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
        try:
            tests = subprocess.run(
                command, cwd=folder, env=env, capture_output=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:  # a kernel that does not come back
            return False
        return tests.returncode == 0


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
