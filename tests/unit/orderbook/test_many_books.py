"""More books than a run of the kernel has records; many that begin a snapshot in one batch."""

from __future__ import annotations

import numpy as np

from shared.orderbook.arrays import PIECE
from shared.orderbook.books import Books
from shared.records import MBO
from shared.units import ACTION_ADD, ACTION_CANCEL, F_LAST, F_SNAPSHOT, SIDE_BID
from tests.support.orderbook import Pair


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


def test_each_of_many_books_that_begin_a_snapshot_in_one_batch_publishes_what_it_had() -> None:
    """Three levels are touched, one goes again, a snapshot begins and ends, and after more changes another begins."""
    n = 200
    steps = [
        (ACTION_ADD, 1, F_LAST),
        (ACTION_ADD, 2, F_LAST),
        (ACTION_ADD, 3, F_LAST),
        (ACTION_CANCEL, 2, F_LAST),
    ]
    steps = [
        *steps,
        (ACTION_ADD, 4, F_SNAPSHOT),
        (ACTION_ADD, 5, F_SNAPSHOT | F_LAST),
        (ACTION_CANCEL, 1, F_LAST),
    ]
    records = np.zeros((len(steps), n), MBO)
    records["publisher_id"], records["instrument_id"], records["side"] = 1, np.arange(n), SIDE_BID
    for row, (action, order_id, flags) in zip(records, steps, strict=True):
        row["action"], row["order_id"], row["price"], row["flags"], row["size"] = (
            action,
            order_id,
            order_id,
            flags,
            7,
        )
    again = records[4:5].copy()
    again["order_id"] = again["price"] = 6
    pair = Pair()
    batch = pair.apply(np.concatenate((records, again)).reshape(-1), 1)
    assert batch.levels[batch.levels["instrument_id"] == 5][["price", "size"]].tolist() == [
        (2, 0), (3, 7), (4, 7), (5, 7), (1, 0),
    ]  # fmt: skip
    pair.end()
