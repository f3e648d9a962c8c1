"""Two engines side by side, and lists of records for them: any at all, or plausible ones that build deep books."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from shared import units
from shared.orderbook.engine import Batch, Engine, Policy
from shared.orderbook.engines import make_engine, restore_engine
from shared.records import LEVEL, MBO, Rows

BOOKS = ((1, 7), (1, 8), (2, 7), (65535, 2**32 - 1))
ACTIONS = b"AAAACCCMMMRTTFFFN\x00Z"
SIDES = b"BBBAAANZ"
FLAGS = (0, 0, 0, 128, 128, 128, 128, 130, 32, 32, 40, 160, 64, 192, 16, 144, 80, 4, 132, 255)
PRICES = (100, 101, 102, 103, 104, 105, 0, -1, -(2**63), 2**63 - 2, units.UNDEF_PX)
SIZES = (1, 2, 3, 5, 0, 2**32 - 1)
ORDER_IDS = (1, 2, 3, 4, 5, 6, 0, 2**64 - 1)

# A hostile record: indices into the tables above. Tuples of small integers are fast to draw and shrink well.
hostile_record = st.tuples(
    st.integers(0, len(ACTIONS) - 1),
    st.integers(0, len(SIDES) - 1),
    st.integers(0, len(FLAGS) - 1),
    st.integers(0, len(PRICES) - 1),
    st.integers(0, len(SIZES) - 1),
    st.integers(0, len(ORDER_IDS) - 1),
    st.integers(0, len(BOOKS) - 1),
)


def records_of(drawn: Sequence[tuple[int, ...]]) -> Rows:
    """The MBO records of drawn index tuples; every other field tells its place in the list."""
    rows = np.zeros(len(drawn), MBO)
    for i, (action, side, flags, price, size, order_id, book) in enumerate(drawn):
        publisher_id, instrument_id = BOOKS[book]
        rows[i] = (
            14, 160, publisher_id, instrument_id, 1000 + i, ORDER_IDS[order_id], PRICES[price], SIZES[size],
            FLAGS[flags], i % 256, ACTIONS[action], SIDES[side], 2000 + i, i, 3000 + i,
        )  # fmt: skip
    return rows


def plausible(seed: int, n: int, *, books: int = 2, width: int = 40, crossing: float = 0.02) -> Rows:
    """n records of order flow that a venue could send: events of several records, fills, moves, some crossed times."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, MBO)
    live: list[dict[int, tuple[int, int, int]]] = [{} for _ in range(books)]
    next_id, i = 1, 0
    while i < n:
        book = int(rng.integers(books))
        orders = live[book]
        steps: list[tuple[str, int, int, int, int]] = []  # action, side, order id, price, size
        if len(orders) < 10 or rng.random() < 0.5:
            side = int(rng.integers(2))
            away = int(rng.integers(1, width)) if rng.random() > crossing else -int(rng.integers(1, width))
            price = 1000 - away if side == 0 else 1000 + away
            size = int(rng.integers(1, 20))
            orders[next_id] = (side, price, size)
            steps.append(("A", side, next_id, price, size))
            next_id += 1
        else:
            order_id = list(orders)[int(rng.integers(len(orders)))]
            side, price, size = orders[order_id]
            kind = rng.random()
            if kind < 0.5:
                del orders[order_id]
                steps.append(("C", side, order_id, price, size))
            elif kind < 0.7:
                price += int(rng.integers(-2, 3))
                size = int(rng.integers(1, 20))
                orders[order_id] = (side, price, size)
                steps.append(("M", side, order_id, price, size))
            else:
                done = int(rng.integers(1, size + 1))
                steps += [("T", 1 - side, 0, price, done), ("F", side, order_id, price, done)]
                if done == size:
                    del orders[order_id]
                    steps.append(("C", side, order_id, price, size))
                elif rng.random() < 0.5:
                    orders[order_id] = (side, price, size - done)
                    steps.append(("C", side, order_id, price, done))
                else:
                    orders[order_id] = (side, price, size - done)
                    steps.append(("M", side, order_id, price, size - done))
        for k, (action, side, order_id, price, size) in enumerate(steps[: n - i]):
            rows[i] = (
                14, 160, 1, 7 + book, 1000 + i, order_id, price, size, 128 if k == len(steps) - 1 else 0, 0,
                ord(action), b"BA"[side], 2000 + i, 0, i,
            )  # fmt: skip
            i += 1
    return rows


def same(a: Batch, b: Batch) -> None:
    """Bit for bit."""
    for name in Batch._fields:
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        assert x is None or x.tobytes() == y.tobytes(), f"{name}:\n{x}\n{y}"


class Pair:
    """The kernel and the reference, given the same; every output and the whole state compared after each step."""

    def __init__(self, policy: Policy = "uncross") -> None:
        self.engines: list[Engine] = [make_engine(policy, "numba"), make_engine(policy, "reference")]

    def _both(self, outputs: list[Batch]) -> Batch:
        same(*outputs)
        assert self.engines[0].image() == self.engines[1].image()
        return outputs[0]

    def apply(self, records: Rows, first: int, *, effects: bool = True) -> Batch:
        return self._both([engine.apply(records, first, effects=effects) for engine in self.engines])

    def end(self) -> Batch:
        return self._both([engine.end() for engine in self.engines])

    def clear(self, instrument_id: int | None = None) -> Batch:
        return self._both([engine.clear(instrument_id) for engine in self.engines])

    def restore(self) -> None:
        """Each engine goes on from the other's image."""
        image = self.engines[0].image()
        self.engines = [restore_engine(image, "numba"), restore_engine(image, "reference")]
        assert self.engines[0].image() == image == self.engines[1].image()

    def same_views(self, order_ids: Iterable[int] = ORDER_IDS) -> None:
        a, b = self.engines
        assert a.books() == b.books()
        assert a.anomalies() == b.anomalies()
        for what in ("level_rows", "bbo_rows", "touched_rows", "auction_rows"):
            assert getattr(a, what)().tobytes() == getattr(b, what)().tobytes(), what
        for key in [*a.books(), (9, 9)]:
            assert a.records(*key) == b.records(*key)
            assert a.anomalies(*key) == b.anomalies(*key)
            assert a.order_rows(*key).tobytes() == b.order_rows(*key).tobytes()
            for limit in (None, 0, 1, 2):
                assert a.view(*key, limit) == b.view(*key, limit)
            for side in (*b"BAN",):
                assert a.levels(*key, side) == b.levels(*key, side)
                assert a.levels(*key, side, 1) == b.levels(*key, side, 1)
                assert list(a.orders(*key, side)) == list(b.orders(*key, side))
                for price in PRICES:
                    assert list(a.orders(*key, side, price)) == list(b.orders(*key, side, price))
            for order_id in order_ids:
                assert a.place(*key, order_id) == b.place(*key, order_id)


def fold(levels: dict[Any, tuple[int, int]], rows: Rows) -> None:
    """What a reader of level rows keeps."""
    assert rows.dtype == LEVEL
    for row in rows.tolist():
        instrument_id, publisher_id, side, _, price, size, count, _ = row
        key = (publisher_id, instrument_id, side, price)
        if count:
            levels[key] = (size, count)
        else:
            assert size == 0
            levels.pop(key, None)
