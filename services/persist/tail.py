"""Rows that are stored but do not fill a block yet, in memory as in the table `tail`."""

from __future__ import annotations

import itertools

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

    def cut(self, target: int) -> list[tuple[NDArray[np.uint64], Rows]]:
        """Everything as blocks of about `target` rows (never more than 1.5 times), and the tail is empty.

        For MBO records with the ordinal of each row; for other rows the ordinals are empty.
        """
        if not self.rows:
            return []
        rows = (
            self.pieces[0][2]
            if len(self.pieces) == 1
            else np.concatenate([piece[2] for piece in self.pieces])
        )
        if rows.dtype == MBO:
            ordinals = np.concatenate([np.arange(f, f + len(r), dtype=np.uint64) for f, _, r in self.pieces])
        else:
            ordinals = np.empty(0, np.uint64)
        blocks = max(1, round(self.rows / target))
        edges = {self.rows * i // blocks for i in range(blocks + 1)}
        if len(
            ordinals
        ):  # many control entries in a row, or a recorded gap: a block does not reach over them
            edges.update((np.flatnonzero(np.diff(ordinals) > MAX_JUMP) + 1).tolist())
        self.pieces, self.rows = [], 0
        cuts = sorted(edges)
        return [(ordinals[a:b], rows[a:b]) for a, b in itertools.pairwise(cuts)]
