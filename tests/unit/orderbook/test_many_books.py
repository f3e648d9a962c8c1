"""More books than a run of the kernel has records."""

from __future__ import annotations

import numpy as np

from shared.orderbook.arrays import PIECE
from shared.orderbook.books import Books
from shared.records import MBO
from shared.units import ACTION_ADD, F_LAST, SIDE_BID


def test_one_batch_may_touch_more_books_than_a_piece_has_records() -> None:
    n = PIECE + 5_000
    records = np.zeros(n, MBO)
    records["publisher_id"], records["instrument_id"] = 1, np.arange(n) + 1
    records["order_id"], records["price"], records["size"] = np.arange(n) + 1, 1_000, 7
    records["action"], records["side"], records["flags"] = ACTION_ADD, SIDE_BID, F_LAST
    books = Books()
    batch = books.apply(records, 1)
    assert batch.touched["instrument_id"].tolist() == list(range(1, n + 1))
    assert batch.levels["instrument_id"].tolist() == list(range(1, n + 1))
    assert np.array_equal(batch.bbo["ordinal"], np.arange(n) + 1)
    assert Books.restore(books.image()).image() == books.image()
