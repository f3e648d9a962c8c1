"""The auction of a crossed book: what trades if it is uncrossed now, and at which price.

Rule: the price that maximises matched size; among those the least surplus; among those the closest to the last trade
(without one: to the middle of the marginal bid and ask); at equal distance the lower. Prices considered: limit prices
in the book, and the last trade's, so the result lies on the venue's tick grid without our knowing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

Sized = tuple[int, int]  # price in 1e-9, size


class Match(NamedTuple):
    price: int  # 1e-9, of every execution
    size: int  # matched, the same on both sides
    bids: tuple[int, int]  # whole bid levels executed, and size executed of the next one
    asks: tuple[int, int]


def match(bids: Sequence[Sized], asks: Sequence[Sized], last_px: int | None) -> Match | None:
    """The auction of two sides, each best first; None if best bid < best ask.

    Walking both sides from their best while they meet matches the most there is, and what remains no longer meets.
    """
    size = i = j = done_bid = done_ask = low = high = 0
    while i < len(bids) and j < len(asks) and bids[i][0] >= asks[j][0]:
        high, low = bids[i][0], asks[j][0]
        step = min(bids[i][1] - done_bid, asks[j][1] - done_ask)
        size, done_bid, done_ask = size + step, done_bid + step, done_ask + step
        if done_bid == bids[i][1]:
            i, done_bid = i + 1, 0
        if done_ask == asks[j][1]:
            j, done_ask = j + 1, 0
    if not size:
        return None
    left_bids = _remaining(bids, i, done_bid)
    left_asks = _remaining(asks, j, done_ask)
    price = _price(low, high, left_bids, left_asks, last_px)
    return Match(price, size, (i, done_bid), (j, done_ask))


def _remaining(levels: Sequence[Sized], first: int, done: int) -> list[Sized]:
    left = list(levels[first:])
    if done:
        left[0] = (left[0][0], left[0][1] - done)
    return left


def _price(low: int, high: int, bids: list[Sized], asks: list[Sized], last_px: int | None) -> int:
    """At every price from `low` (the marginal ask) to `high` (the marginal bid) the matched size is the same.

    The surplus there is what remains on one side at that price or better, less the same on the other side. It only
    grows away from the gap between the remaining sides, so no other limit price can be better than these five.
    """
    anchor = (low + high) // 2 if last_px is None else last_px
    candidates = {low, high, anchor if last_px is not None else low}
    candidates |= {side[0][0] for side in (bids, asks) if side}

    def rank(price: int) -> tuple[int, int, int]:
        surplus_bid = sum(size for _, size in takewhile(lambda level: level[0] >= price, bids))
        surplus_ask = sum(size for _, size in takewhile(lambda level: level[0] <= price, asks))
        return abs(surplus_bid - surplus_ask), abs(price - anchor), price

    return min((price for price in candidates if low <= price <= high), key=rank)
