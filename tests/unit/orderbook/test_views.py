"""Figures of books: depth, spread, mid, microprice, imbalance, several venues as one."""

from __future__ import annotations

import pytest

from shared.orderbook import views
from shared.orderbook.engine import Level
from shared.orderbook.engines import make_engine
from shared.units import SIDE_ASK, SIDE_BID
from tests.support.books import rec, rows

BIDS = [Level(100, 30, 3), Level(99, 10, 1)]
ASKS = [Level(103, 10, 2), Level(104, 40, 4)]


def test_figures_of_a_book() -> None:
    assert views.total_depth(BIDS) == (40, 4)
    assert views.spread(BIDS, ASKS) == 3
    assert views.mid(BIDS, ASKS) == 101
    assert views.microprice(BIDS, ASKS) == pytest.approx((100 * 10 + 103 * 30) / 40)
    assert views.imbalance(BIDS, ASKS) == pytest.approx(0.5)
    assert views.imbalance(BIDS, ASKS, 2) == pytest.approx(-10 / 90)
    assert views.size_to(ASKS, 103, SIDE_ASK) == 10
    assert views.size_to(BIDS, 99, SIDE_BID) == 40


def test_a_missing_side_has_no_figures() -> None:
    assert views.spread([], ASKS) is None
    assert views.mid(BIDS, []) is None
    assert views.microprice(BIDS, []) is None
    assert views.imbalance([], []) is None
    assert views.imbalance(BIDS, []) == 1.0


def test_an_overlay_replaces_what_is_better_and_its_own_level() -> None:
    assert views.overlaid(BIDS, Level(99, 4, 1), SIDE_BID) == [Level(99, 4, 1)]
    assert views.overlaid(ASKS, Level(103, 1, 1), SIDE_ASK) == [Level(103, 1, 1), Level(104, 40, 4)]
    assert views.overlaid(BIDS, Level(0, 0, 0), SIDE_BID) == []


@pytest.mark.parametrize("kind", ["numba", "reference"])
def test_venues_of_an_instrument_are_summed_and_may_cross(kind: str) -> None:
    engine = make_engine("uncross", kind)
    engine.apply(
        rows(
            rec("A", size=5),
            rec("A", size=7, publisher_id=2, price=102),
            rec("A", size=1, publisher_id=2, order_id=2),
            rec("A", side="A", price=101, size=2, order_id=3),
            rec("A", side="A", price=101, size=9, order_id=3, instrument_id=8),
        ),
        1,
    )
    bids, asks = views.consolidated_view(engine, 7)
    assert bids == [Level(102, 7, 1), Level(100, 6, 2)]
    assert asks == [Level(101, 2, 1)]
    assert views.consolidated_view(engine, 7, 1) == (bids[:1], asks)
