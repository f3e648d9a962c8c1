"""The order table when ids collide: nothing is lost, nothing is found that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from shared.orderbook import layout as lo
from tests.support.orderbook import Pair, plausible


@pytest.mark.parametrize("policy", ["raw", "execute"])
def test_orders_are_found_and_forgotten_when_all_of_them_collide(policy: Any) -> None:
    records, pair = plausible(5, 3000, books=1, width=30, crossing=0.1), Pair(policy)
    fast: Any = pair.engines[0]
    fast._meta[lo.SEED2] = 0  # the hash of every id is 0 now
    for at in range(0, len(records), 100):
        pair.apply(records[at : at + 100], at + 1, effects=False)
    pair.same_views(order_ids=range(1, 200))
