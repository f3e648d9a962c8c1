"""Sides of many levels: chunks split, shrink, empty and join while both engines stay equal."""

from __future__ import annotations

import numpy as np
import pytest

from shared.orderbook import layout
from shared.orderbook.engines import make_engine
from shared.records import Rows
from shared.units import F_LAST, F_SNAPSHOT, SIDE_ASK, SIDE_BID
from tests.support.mbo import record, rows

LEVELS = 300
CLEAR = record("R", side="N", size=0, order_id=0)


def adds(side: str, prices: list[int]) -> list[dict[str, int]]:
    return [record("A", side, price, 1, 10_000 + price) for price in prices]


def cancels(side: str, prices: list[int]) -> list[dict[str, int]]:
    return [record("C", side, price, 1, 10_000 + price) for price in prices]


def check(records: Rows) -> None:
    """Both engines give the same rows and state after every record."""
    fast, plain = make_engine("raw", "numba"), make_engine("raw", "reference")
    for ordinal in range(1, len(records) + 1):
        one = records[ordinal - 1 : ordinal]
        for got, wanted in zip(fast.apply(one, ordinal)[:5], plain.apply(one, ordinal)[:5], strict=True):
            assert got is not None
            assert wanted is not None
            assert got.tobytes() == wanted.tobytes(), ordinal
    assert fast.state_hash() == plain.state_hash()
    for side in (SIDE_BID, SIDE_ASK):
        assert fast.levels(1, 1, side) == plain.levels(1, 1, side)


@pytest.mark.parametrize("side", ["B", "A"])
@pytest.mark.parametrize("order", ["best first", "worst first", "middle out"])
def test_a_clear_empties_what_is_left_of_a_deep_side(side: str, order: str) -> None:
    """A chunk at the top that had been emptied level by level once hid the rest of its side from a clear."""
    prices = list(range(1000, 1000 + LEVELS))
    best_first = prices[::-1] if side == "B" else prices
    taken = {"best first": best_first, "worst first": best_first[::-1],
             "middle out": sorted(prices, key=lambda p: abs(p - 1000 - LEVELS // 2))}[order]  # fmt: skip
    for kept in (1, 40, 64, 150, 255):
        check(
            rows(*adds(side, prices), *cancels(side, taken[: LEVELS - kept]), CLEAR, *adds(side, prices[:5]))
        )


@pytest.mark.parametrize("seed", range(6))
def test_random_tides_of_levels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made: list[dict[str, int]] = []
    standing: list[int] = []
    for _ in range(8):
        more = [
            int(p) for p in rng.choice(np.arange(1000, 1400), 150, replace=False) if int(p) not in standing
        ]
        made += adds("B", more)
        standing += more
        standing.sort(reverse=bool(rng.integers(2)))
        gone = standing[: int(rng.integers(0, len(standing)))]
        made += cancels("B", gone)
        standing = [p for p in standing if p not in gone]
    check(rows(*made, CLEAR))


def test_a_snapshot_that_clears_what_its_batch_has_moved_finds_room_for_every_level_it_lists() -> None:
    """Levels listed before a snapshot are listed once more when its R takes them: more than two a record."""
    deep = 1300
    standing = [record("A", "B", 1000 + k, 1, 10 * k + i) for k in range(deep) for i in (1, 2)]
    passing = list(
        range(200_000, 200_000 + deep)
    )  # so that no pool has to grow later: the room is looked at anew then
    before = rows(*standing, *adds("B", passing), *cancels("B", passing))
    moved = [record("M", "B", 100_000 + k, 1, 10 * k + 1) for k in range(deep)]
    batch = rows(*moved, CLEAR | {"flags": F_SNAPSHOT | F_LAST})
    fast, plain = make_engine("raw", "numba"), make_engine("raw", "reference")
    for at in range(0, len(before), 100):  # in small batches: the list stays as short as it begins
        fast.apply(before[at : at + 100], at + 1)
    plain.apply(before, 1)
    got, wanted = (engine.apply(batch, len(before) + 1) for engine in (fast, plain))
    room: int = fast._meta[layout.DIRTY_CAP]  # type: ignore[attr-defined]
    assert room >= 4 * deep  # each old and new level, before the snapshot and in it
    assert got.levels.tobytes() == wanted.levels.tobytes()
    assert fast.state_hash() == plain.state_hash()
