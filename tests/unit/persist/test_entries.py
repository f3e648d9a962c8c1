"""Cutting and joining: tails into blocks, entries into longer ones, blocks and controls into entries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from services.persist.chunks import coalesce
from services.persist.tail import Tail
from shared.blocks import Encoder
from shared.history_types import HistoryError, merge_entries, stored_entry
from shared.records import BBO
from tests.support.mbo import random_rows


@pytest.mark.parametrize(("rows", "blocks"), [(0, 0), (10, 1), (140, 1), (160, 2), (1000, 10)])
def test_a_tail_is_cut_into_blocks_of_about_the_target(rows: int, blocks: int) -> None:
    made, tail = random_rows(max(rows, 1))[:rows], Tail()
    for at in range(0, rows, 7):
        tail.add(at + 1, min(at + 7, rows), made[at : at + 7])
    parts = list(tail.cut(100))
    assert len(parts) == blocks
    assert all(len(part) <= 150 for _, part in parts)
    assert b"".join(part.tobytes() for _, part in parts) == made.tobytes()
    assert [int(o) for ordinals, _ in parts for o in ordinals] == list(range(1, rows + 1))
    assert (tail.rows, list(tail.cut(100))) == (0, [])


def test_a_block_does_not_reach_over_a_recorded_gap() -> None:
    made, tail = random_rows(20), Tail()
    tail.add(1, 10, made[:10])
    tail.add(12, 16, made[10:15])  # one control between: the same block
    tail.add(5000, 5004, made[15:])
    assert [(int(ordinals[0]), int(ordinals[-1])) for ordinals, _ in tail.cut(100)] == [(1, 16), (5000, 5004)]


def test_rows_without_ordinals_of_their_own_are_cut_too() -> None:
    tail = Tail()
    tail.add(1, 50, np.zeros(30, BBO))
    assert [(len(ordinals), len(rows)) for ordinals, rows in tail.cut(10)] == [(0, 10), (0, 10), (0, 10)]


def test_consecutive_records_are_joined_and_controls_keep_their_place() -> None:
    made = random_rows(40_000)
    entries = [stored_entry(1000, 1 + at, made[at : at + 1000], None) for at in range(0, 40_000, 1000)]
    entries.insert(2, stored_entry(1, 0, None, {"type": "day"}))
    joined = list(coalesce(entries))
    assert [entry.n for entry in joined] == [2000, 1, 12_000, 12_000, 12_000, 2000]
    rows = [entry.records for entry in joined if entry.records is not None]
    assert np.concatenate(rows).tobytes() == made.tobytes()
    assert all(part.flags.writeable for part in rows)


def _stored() -> tuple[list[bytes], list[tuple[int, int, dict[str, str]]]]:
    made, encoder = random_rows(30), Encoder()
    ordinals = np.array([*range(3, 13), *range(14, 24), *range(27, 37)], np.uint64)
    blocks = [encoder.mbo(made[a : a + 15], ordinals[a : a + 15]) for a in (0, 15)]
    kinds = [(1, 1, "begin"), (2, 1, "mapping"), (13, 1, "day"), (26, 3, "gap"), (37, 1, "end")]
    controls = [(ordinal, n, {"type": kind}) for ordinal, n, kind in kinds]
    return blocks, controls


@pytest.mark.parametrize(
    ("first", "last"), [(1, 99), (1, 13), (5, 30), (13, 13), (24, 26), (37, 37), (36, 99)]
)
def test_blocks_and_controls_become_contiguous_entries(first: int, last: int) -> None:
    blocks, controls = _stored()
    found = list(merge_entries(blocks, lambda a, b: [c for c in controls if a <= c[0] <= b], first, last))
    assert found[0].first == first
    assert all(a.last + 1 == b.first for a, b in pairwise(found))
    assert found[-1].last == min(last, 37)


def test_a_hole_in_the_store_is_an_error_not_a_jump() -> None:
    blocks, controls = _stored()
    with pytest.raises(HistoryError, match="24 to 26 are not in the store"):
        list(
            merge_entries(blocks, lambda a, b: [c for c in controls if a <= c[0] <= b and c[0] != 26], 1, 99)
        )
