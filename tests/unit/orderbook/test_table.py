"""The order table when ids collide: nothing is lost, nothing is found that is gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.orderbook import layout as lo
from shared.orderbook.pools import tag_of
from tests.support.orderbook import Pair, plausible


@pytest.mark.parametrize("books", [1, 3])
@pytest.mark.parametrize("policy", ["raw", "execute"])
def test_orders_are_found_and_forgotten_when_all_of_them_collide(policy: Any, books: int) -> None:
    records, pair = plausible(5, 3000, books=books, width=30, crossing=0.1), Pair(policy)
    fast: Any = pair.engines[0]
    fast._meta[lo.SEED2] = 0  # the hash of every id is 0 now
    for at in range(0, len(records), 100):
        pair.apply(records[at : at + 100], at + 1, effects=False)
    pair.same_views(order_ids=range(1, 200))


def test_an_id_has_another_tag_in_every_book() -> None:
    tags = {tag_of(np.uint64(3), np.uint64(12345), slot, 77) for slot in range(50_000)}
    assert len(tags) == 50_000
    assert all(0 <= tag < 1 << 32 for tag in tags)
