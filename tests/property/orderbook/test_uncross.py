"""The auction: best price by brute force, quantity conserved, price-time priority, view = what `execute` leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.orderbook.engines import make_engine
from shared.orderbook.uncross import match
from shared.records import MBO
from shared.units import F_LAST, SIDE_ASK, SIDE_BID
from tests.property.orderbook.test_engines import profile

prices = st.one_of(st.integers(0, 12), st.sampled_from([-(2**63), 2**63 - 2]))
sides = st.dictionaries(prices, st.integers(1, 6), max_size=6)
last = st.one_of(st.none(), prices)
orders = st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(1, 5)), max_size=14)


@profile
@given(bids=sides, asks=sides, last_px=last)
def test_the_price_is_optimal_among_all_limit_prices_and_the_last(
    bids: dict[int, int], asks: dict[int, int], last_px: int | None
) -> None:
    found = match(sorted(bids.items(), reverse=True), sorted(asks.items()), last_px)

    def at(price: int) -> tuple[int, int]:
        demand = sum(size for limit, size in bids.items() if limit >= price)
        supply = sum(size for limit, size in asks.items() if limit <= price)
        return min(demand, supply), abs(demand - supply)

    candidates = {*bids, *asks, *([] if last_px is None else [last_px])}
    most = max((at(price)[0] for price in candidates), default=0)
    if not most:
        assert found is None
        return
    assert found is not None
    best = [price for price in candidates if at(price)[0] == most]
    limits = [price for price in (*bids, *asks) if at(price)[0] == most]
    anchor = (min(limits) + max(limits)) // 2 if last_px is None else last_px
    # Without a last trade the anchor is the middle of the marginal limits: the ends of the matching interval.
    low = min(price for price in asks if at(price)[0] == most) if last_px is None else 0
    high = max(price for price in bids if at(price)[0] == most) if last_px is None else 0
    anchor = (low + high) // 2 if last_px is None else anchor
    wanted = min(best, key=lambda price: (at(price)[1], abs(price - anchor), price))
    assert (found.price, found.size) == (wanted, most)


def played(drawn: list[tuple[bool, int, int]]) -> Any:
    """Adds of one event: (is ask, price, size), ids from 1."""
    rows = np.zeros(len(drawn), MBO)
    rows["publisher_id"], rows["instrument_id"], rows["action"] = 1, 7, ord("A")
    for i, (is_ask, price, size) in enumerate(drawn):
        rows[i]["side"] = SIDE_ASK if is_ask else SIDE_BID
        rows[i]["price"], rows[i]["size"], rows[i]["order_id"] = price, size, i + 1
    if len(rows):
        rows["flags"][-1] = F_LAST
    return rows


@profile
@given(drawn=orders, kind=st.sampled_from(["numba", "reference"]))
def test_the_view_is_what_executing_leaves_and_nothing_is_lost(
    drawn: list[tuple[bool, int, int]], kind: str
) -> None:
    rows, key = played(drawn), (1, 7)
    engines = {policy: make_engine(policy, kind) for policy in ("raw", "uncross", "execute")}
    batches = {policy: engine.apply(rows, 1) for policy, engine in engines.items()}
    view = engines["uncross"].view(*key)
    assert view == engines["execute"].view(*key)
    bids, asks = view
    assert not bids or not asks or bids[0].price < asks[0].price
    auctions = batches["uncross"].auctions
    matched = int(auctions["size"][-1]) if len(auctions) else 0
    for side, (left, is_ask) in {SIDE_BID: (bids, False), SIDE_ASK: (asks, True)}.items():
        before = sum(size for ask, _, size in drawn if ask is is_ask)
        assert before - matched == sum(level.size for level in left)
        assert engines["uncross"].levels(*key, side) == engines["raw"].levels(*key, side)
        # Price-time priority: who is left is a suffix of the queue, and only the first of it may be smaller.
        queue = [(order.order_id, order.size) for order in engines["raw"].orders(*key, side)]
        remaining = [(order.order_id, order.size) for order in engines["execute"].orders(*key, side)]
        tail = queue[len(queue) - len(remaining) :]
        assert remaining[1:] == tail[1:]
        assert [order_id for order_id, _ in remaining] == [order_id for order_id, _ in tail]
        if remaining:
            assert remaining[0][1] <= tail[0][1]


@profile
@given(drawn=orders)
def test_the_overlay_ends_with_the_crossing(drawn: list[tuple[bool, int, int]]) -> None:
    engine = make_engine("uncross")
    present = bool(engine.apply(played(drawn), 1).auctions["present"].sum())
    assert present == (len(engine.auction_rows()) == 1)
    batch = engine.clear(7, len(drawn) + 1)
    assert batch.auctions["present"].tolist() == ([0] if present else [])
