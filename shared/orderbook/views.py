"""Figures of a book from its levels: pure functions over lists of `Level`, best first.

Prices are ints in 1e-9; `None` where a side is missing. Only `microprice` and `imbalance` are floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from shared.orderbook.engine import Engine, Level
from shared.units import SIDE_ASK, SIDE_BID


def is_better(price: int, than: int, side: int) -> bool:
    """Strictly closer to the other side."""
    return price > than if side == SIDE_BID else price < than


def overlaid(levels: Sequence[Level], first: Level, side: int) -> list[Level]:
    """A raw side as published while its book is crossed: nothing better than `first`, and that level replaced.

    `first` of count 0: nothing of the side remains.
    """
    if not first.count:
        return []
    rest = [level for level in levels if is_better(first.price, level.price, side)]
    return [first, *rest]


def total_depth(levels: Iterable[Level]) -> tuple[int, int]:
    """(size, orders) over all levels."""
    size = count = 0
    for level in levels:
        size, count = size + level.size, count + level.count
    return size, count


def size_to(levels: Iterable[Level], price: int, side: int) -> int:
    """Size at `price` or better: what a marketable order limited there could take."""
    return sum(
        level.size for level in takewhile(lambda level: not is_better(price, level.price, side), levels)
    )


def consolidated(sides: Iterable[Sequence[Level]], side: int) -> list[Level]:
    """One side of an instrument over all its venues, best first. The two sides may lock or cross all day."""
    merged: dict[int, tuple[int, int]] = {}
    for levels in sides:
        for level in levels:
            size, count = merged.get(level.price, (0, 0))
            merged[level.price] = (size + level.size, count + level.count)
    return [Level(price, *merged[price]) for price in sorted(merged, reverse=side == SIDE_BID)]


def consolidated_view(
    engine: Engine, instrument_id: int, limit: int | None = None
) -> tuple[list[Level], list[Level]]:
    """(bids, asks) of an instrument over all publishers, each venue's as published; at most `limit` levels a side."""
    views = [engine.view(*key) for key in engine.books() if key[1] == instrument_id]
    bids = consolidated((view[0] for view in views), SIDE_BID)
    asks = consolidated((view[1] for view in views), SIDE_ASK)
    return bids[:limit], asks[:limit]


def spread(bids: Sequence[Level], asks: Sequence[Level]) -> int | None:
    """Best ask − best bid, in 1e-9; negative if crossed."""
    return asks[0].price - bids[0].price if bids and asks else None


def mid(bids: Sequence[Level], asks: Sequence[Level]) -> int | None:
    """The middle of best bid and ask in 1e-9, rounded down."""
    return (bids[0].price + asks[0].price) // 2 if bids and asks else None


def microprice(bids: Sequence[Level], asks: Sequence[Level]) -> float | None:
    """Mid weighted by the size on the OTHER side, in 1e-9: it leans to where the next trade is likely."""
    if not bids or not asks:
        return None
    bid, ask = bids[0], asks[0]
    return (bid.price * ask.size + ask.price * bid.size) / (bid.size + ask.size)


def imbalance(bids: Sequence[Level], asks: Sequence[Level], levels: int = 1) -> float | None:
    """(bid size − ask size) / (bid size + ask size) over the best `levels`: −1 … 1."""
    bid, ask = total_depth(bids[:levels])[0], total_depth(asks[:levels])[0]
    return (bid - ask) / (bid + ask) if bid + ask else None
