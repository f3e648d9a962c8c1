"""Other order books for `mbo bench engine`: ways people build them today. None is a dependency."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sortedcontainers import SortedDict

from shared.records import Rows
from shared.units import F_LAST, UNDEF_PX

Figures = tuple[int, ...]  # bid price, size, count, ask price, size, count


@dataclass(frozen=True, slots=True)
class Rival:
    """`prepare(warm, records)` does what is not to be measured and returns the call that is."""

    many: bool  # can hold several books
    prepare: Callable[[Rows | None, Rows], Callable[[], list[Figures] | NDArray[np.int64]]]
    fast: bool = False  # plays all records, as often as the kernel


def available() -> dict[str, Rival]:
    found = {"databento-example": Rival(True, _example)}
    if shutil.which("g++"):
        found["c++"] = Rival(True, _cpp, fast=True)
    if importlib.util.find_spec("nautilus_trader"):
        found["nautilus"] = Rival(False, _nautilus)
    return found


# --- the Python order book of Databento's documentation, in our words: objects, dicts and sorted dicts ----------------


class _Order:
    __slots__ = ("order_id", "price", "side", "size")

    def __init__(self, order_id: int, side: int, price: int, size: int) -> None:
        self.order_id, self.side, self.price, self.size = order_id, side, price, size


class _ExampleBook:
    def __init__(self) -> None:
        self.orders: dict[int, _Order] = {}
        self.sides: dict[int, SortedDict] = {ord("B"): SortedDict(), ord("A"): SortedDict()}

    def add(self, order_id: int, side: int, price: int, size: int) -> None:
        if order_id in self.orders:
            self.remove(order_id, self.orders[order_id].size)
        order = self.orders[order_id] = _Order(order_id, side, price, size)
        self.sides[side].setdefault(price, []).append(order)

    def remove(self, order_id: int, size: int) -> None:
        order = self.orders.get(order_id)
        if order is None:
            return
        order.size -= size
        if order.size <= 0:
            level = self.sides[order.side][order.price]
            level.remove(order)
            if not level:
                del self.sides[order.side][order.price]
            del self.orders[order_id]

    def modify(self, order_id: int, side: int, price: int, size: int) -> None:
        order = self.orders.get(order_id)
        if order is None:
            self.add(order_id, side, price, size)
        elif order.price != price or size > order.size:
            self.remove(order_id, order.size)
            self.add(order_id, side, price, size)
        else:
            order.size = size

    def clear(self) -> None:
        self.orders.clear()
        for side in self.sides.values():
            side.clear()

    def best(self) -> Figures:
        bids, asks = self.sides[ord("B")], self.sides[ord("A")]
        return (*_top(bids, -1), *_top(asks, 0))


def _top(side: SortedDict, index: int) -> tuple[int, int, int]:
    if not side:
        return UNDEF_PX, 0, 0
    price, orders = side.peekitem(index)
    return price, sum(order.size for order in orders), len(orders)


def _example(warm: Rows | None, records: Rows) -> Callable[[], list[Figures]]:
    books: dict[tuple[int, int], _ExampleBook] = {}
    last: dict[tuple[int, int], Figures] = {}

    def play(rows: Rows) -> list[Figures]:
        out = []
        names = ("publisher_id", "instrument_id", "action", "side", "price", "size", "order_id", "flags")
        for publisher, instrument, action, side, price, size, order_id, flags in zip(
            *(rows[name].tolist() for name in names), strict=True
        ):
            key = (publisher, instrument)
            book = books.get(key)
            if book is None:
                book = books[key] = _ExampleBook()
            if action == 65:  # A
                book.add(order_id, side, price, size)
            elif action == 67:  # C
                book.remove(order_id, size)
            elif action == 77:  # M
                book.modify(order_id, side, price, size)
            elif action == 82:  # R
                book.clear()
            if flags & F_LAST:
                best = book.best()
                if best != last.get(key, (UNDEF_PX, 0, 0, UNDEF_PX, 0, 0)):
                    last[key] = best
                    out.append(best)
        return out

    if warm is not None:
        play(warm)
    return lambda: play(records)


# --- the same book in C++, for speed alone: book.cpp ----------------------------------------------------------


@cache
def _library() -> ctypes.CDLL:
    """Compiled for this machine, as the kernel is."""
    source = Path(__file__).with_name("book.cpp")
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "book.so"
        subprocess.run(["g++", "-O3", "-march=native", "-shared", "-fPIC", "-o", built, source], check=True)
        library = ctypes.CDLL(str(built))
    library.book_new.restype = ctypes.c_void_p
    library.book_free.argtypes = [ctypes.c_void_p]
    library.book_play.restype = ctypes.c_int64
    library.book_play.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    return library


def _cpp(warm: Rows | None, records: Rows) -> Callable[[], NDArray[np.int64]]:
    """All records in one call; the room for its rows has been touched before the clock starts."""
    library = _library()
    engine = library.book_new()
    out = np.ones((len(records), 6), np.int64)
    if warm is not None:
        unread = np.empty((len(warm), 6), np.int64)
        library.book_play(engine, warm.ctypes.data, len(warm), unread.ctypes.data)

    def play() -> NDArray[np.int64]:
        rows = library.book_play(engine, records.ctypes.data, len(records), out.ctypes.data)
        library.book_free(engine)
        return out[:rows]

    return play


# --- nautilus_trader's L3 book ----------------------------------------------------------------------------------------


def _nautilus(warm: Rows | None, records: Rows) -> Callable[[], list[Figures]]:
    """Its own deltas, made before the clock starts; best prices are asked for at every event end.

    It has no size of a best level by count, so its figures differ from ours and so does its hash.
    """
    from nautilus_trader.model.book import OrderBook  # type: ignore[import-not-found]
    from nautilus_trader.model.data import BookOrder, OrderBookDelta  # type: ignore[import-not-found]
    from nautilus_trader.model.enums import BookAction, BookType, OrderSide  # type: ignore[import-not-found]
    from nautilus_trader.model.identifiers import InstrumentId  # type: ignore[import-not-found]
    from nautilus_trader.model.objects import Price, Quantity  # type: ignore[import-not-found]

    name = InstrumentId.from_str("X.SIM")
    book = OrderBook(name, BookType.L3_MBO)
    actions = {65: BookAction.ADD, 67: BookAction.DELETE, 77: BookAction.UPDATE, 82: BookAction.CLEAR}
    sides = {66: OrderSide.BUY, 65: OrderSide.SELL}

    def delta(row: Any) -> Any:
        side = sides.get(int(row["side"]), OrderSide.NO_ORDER_SIDE)
        price = 0 if int(row["price"]) == UNDEF_PX else int(row["price"])
        order = BookOrder(side, Price(price / 1e9, 9), Quantity(int(row["size"]), 0), int(row["order_id"]))
        return OrderBookDelta(
            name, actions[int(row["action"])], order, int(row["flags"]), int(row["sequence"]), 0, 0
        )

    def deltas(rows: Rows) -> list[tuple[Any, bool]]:
        return [(delta(row), bool(row["flags"] & F_LAST)) for row in rows if int(row["action"]) in actions]

    for each, _ in deltas(warm) if warm is not None else ():
        book.apply_delta(each)
    todo = deltas(records)

    def play() -> list[Figures]:
        out: list[Figures] = []
        last: Figures = ()
        for each, ends in todo:
            book.apply_delta(each)
            if ends:
                bid, ask = book.best_bid_price(), book.best_ask_price()
                now = (
                    UNDEF_PX if bid is None else round(float(bid) * 1e9), 0, 0,
                    UNDEF_PX if ask is None else round(float(ask) * 1e9), 0, 0,
                )  # fmt: skip
                if now != last:
                    out.append(now)
                    last = now
        return out

    return play
