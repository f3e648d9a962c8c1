"""Rows that are stored but do not fill a block yet, in memory as in the table `tail`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shared.records import MBO, Rows

MAX_JUMP = 16  # ordinals between two records of one block


class Tail:
    """Pieces of one shard in order. A piece of MBO records has contiguous ordinals from its first."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, int, Rows]] = []  # first, last, rows
        self.rows = 0
        self.stored = False  # whether the table holds some of them

    def add(self, first: int, last: int, rows: Rows) -> None:
        if len(rows):
            self.pieces.append((first, last, rows))
            self.rows += len(rows)

    def cut(self, target: int) -> Iterator[tuple[NDArray[np.uint64], Rows]]:
        """Everything as blocks of about `target` rows (never more than 1.5 times); the tail is empty at once.

        For MBO records with the ordinal of each row; for other rows the ordinals are empty. Rows are copied only where
        a block spans pieces: joining all of them first costs more than compressing them saves (56 ns a record).
        """
        pieces, count = self.pieces, self.rows
        self.pieces, self.rows = [], 0
        blocks = max(1, round(count / target))
        edges = [count * i // blocks for i in range(1, blocks + 1)] if count else []
        held: list[tuple[int, Rows]] = []  # first ordinal, rows: of the block being gathered
        seen = 0
        last = None
        for first, end, rows in pieces:
            if held and rows.dtype == MBO and last is not None and first - last > MAX_JUMP:
                yield _join(
                    held
                )  # many control entries in a row, or a recorded gap: no block reaches over them
                held = []
            last, at = end, 0
            while edges and seen + len(rows) - at >= edges[0]:
                upto = at + edges.pop(0) - seen
                if upto > at:
                    held.append((first + at, rows[at:upto]))
                if held:
                    yield _join(held)
                held, seen, at = [], seen + upto - at, upto
            if at < len(rows):
                held.append((first + at, rows[at:]))
                seen += len(rows) - at


def _join(held: list[tuple[int, Rows]]) -> tuple[NDArray[np.uint64], Rows]:
    rows = held[0][1] if len(held) == 1 else np.concatenate([part for _, part in held])
    if rows.dtype != MBO:
        return np.empty(0, np.uint64), rows
    return np.concatenate(
        [np.arange(first, first + len(part), dtype=np.uint64) for first, part in held]
    ), rows
