"""Rows that are stored but do not fill a block yet, in memory as in the table `tail`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shared.records import MBO, Rows, joined

Piece = tuple[int, int, Rows]  # first and last ordinal, rows
MAX_JUMP = 16  # ordinals between two records of one block


class Tail:
    """Pieces of one shard in order. A piece of MBO records has contiguous ordinals from its first."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.rows = 0
        self.stored = False  # whether the table holds some of them

    def add(self, first: int, last: int, rows: Rows) -> None:
        if len(rows):
            self.pieces.append((first, last, rows))
            self.rows += len(rows)

    def cut(self, target: int) -> Iterator[tuple[NDArray[np.uint64], Rows]]:
        """Everything as blocks of about `target` rows (never more than 1.5 times); the tail is empty at once.

        For MBO records with the ordinal of each row; for other rows the ordinals are empty. A piece that is large
        enough is cut by itself: joining rows costs more than compressing them saves (56 ns a record).
        """
        pieces, self.pieces, self.rows = self.pieces, [], 0
        for unit in _units(pieces, target):
            yield from _blocks(unit, target)


def _units(pieces: list[Piece], target: int) -> Iterator[list[Piece]]:
    """Consecutive pieces of at least `target` rows together, where no jump of ordinals keeps them apart."""
    unit: list[Piece] = []
    rows, left = 0, sum(len(piece[2]) for piece in pieces)
    for piece in pieces:
        jump = unit and piece[2].dtype == MBO and piece[0] - unit[-1][1] > MAX_JUMP
        if jump or (rows >= target and left >= target):
            yield unit
            unit, rows = [], 0
        unit.append(piece)
        rows += len(piece[2])
        left -= len(piece[2])
    if unit:
        yield unit


def _blocks(unit: list[Piece], target: int) -> Iterator[tuple[NDArray[np.uint64], Rows]]:
    count = sum(len(piece[2]) for piece in unit)
    blocks = max(1, round(count / target))
    edges = [count * i // blocks for i in range(1, blocks + 1)]
    held: list[tuple[int, Rows]] = []  # first ordinal, rows: of the block being gathered
    seen = 0
    for first, _, rows in unit:
        at = 0
        while edges and seen + len(rows) - at >= edges[0]:
            upto = at + edges.pop(0) - seen
            held.append((first + at, rows[at:upto]))
            yield _join(held)
            held, seen, at = [], seen + upto - at, upto
        if at < len(rows):
            held.append((first + at, rows[at:]))
            seen += len(rows) - at


def _join(held: list[tuple[int, Rows]]) -> tuple[NDArray[np.uint64], Rows]:
    rows = held[0][1] if len(held) == 1 else joined([part for _, part in held])
    if rows.dtype != MBO:
        return np.empty(0, np.uint64), rows
    return np.concatenate(
        [np.arange(first, first + len(part), dtype=np.uint64) for first, part in held]
    ), rows
