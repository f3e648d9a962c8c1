"""What each record does: the table of shared/orderbook/README.md, on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared import units
from shared.orderbook.engine import CARRY_RECORDS_MAX, EVENT_RECORDS_MAX, Engine, Level
from shared.orderbook.engines import make_engine
from shared.records import (
    BOOK_CROSSED,
    BOOK_LOCKED,
    BOOK_MAYBE_BAD,
    BOOK_OPEN,
    BOOK_SNAPSHOT,
    EFFECT_ADDED,
    EFFECT_CLEARED,
    EFFECT_MOVED,
    EFFECT_NONE,
    EFFECT_REDUCED,
    EFFECT_REMOVED,
    EFFECT_REPLACED,
)
from shared.units import F_LAST, F_MBP, F_SNAPSHOT, F_TOB, SIDE_ASK, SIDE_BID, UNDEF_PX
from tests.support.books import KEY, rec, rows


@pytest.fixture(params=["numba", "reference"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return make_engine("raw", request.param)


def ids(engine: Engine, price: int | None = None, side: int = SIDE_BID) -> list[tuple[int, int]]:
    return [(order.order_id, order.size) for order in engine.orders(*KEY, side, price)]


def play(engine: Engine, *records: Any) -> Any:
    return engine.apply(rows(*records), 1, effects=True)


def effect(batch: Any) -> tuple[int, ...]:
    last = batch.effects[-1]
    return int(last["effect"]), int(last["size_before"]), int(last["size_after"])


def test_adds_queue_behind_each_other_and_sum_up(engine: Engine) -> None:
    batch = play(
        engine, rec("A", size=5), rec("A", size=7, order_id=2), rec("A", price=99, size=1, order_id=3)
    )
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, 12, 2), Level(99, 1, 1)]
    assert ids(engine) == [(1, 5), (2, 7), (3, 1)]
    assert effect(batch) == (EFFECT_ADDED, 0, 1)
    assert [tuple(row)[-6:] for row in batch.bbo.tolist()] == [
        (100, UNDEF_PX, 5, 0, 1, 0),
        (100, UNDEF_PX, 12, 0, 2, 0),
    ]


def test_a_partial_cancel_keeps_the_place_and_a_full_one_removes(engine: Engine) -> None:
    batch = play(engine, rec("A", size=5), rec("A", size=7, order_id=2), rec("C", size=2))
    assert ids(engine) == [(1, 3), (2, 7)]
    assert effect(batch) == (EFFECT_REDUCED, 5, 3)
    assert effect(play(engine, rec("C", size=3))) == (EFFECT_REMOVED, 3, 0)
    assert ids(engine) == [(2, 7)]
    assert engine.anomalies() == {}


@pytest.mark.parametrize(
    ("modify", "queue", "what"),
    [
        (rec("M", size=4), [(1, 4), (2, 7)], EFFECT_REDUCED),  # smaller: keeps its place
        (rec("M", size=5), [(1, 5), (2, 7)], EFFECT_NONE),
        (rec("M", size=6), [(2, 7), (1, 6)], EFFECT_MOVED),  # larger: to the back
        (rec("M", size=5, price=99), [(2, 7), (1, 5)], EFFECT_MOVED),
        (rec("M", size=5, price=101), [(1, 5), (2, 7)], EFFECT_MOVED),
    ],
)
def test_a_modify_loses_priority_only_with_price_or_more_size(
    engine: Engine, modify: Any, queue: list[tuple[int, int]], what: int
) -> None:
    batch = play(engine, rec("A", size=5), rec("A", size=7, order_id=2), modify)
    assert ids(engine) == queue
    assert effect(batch)[0] == what
    assert engine.anomalies() == {}


def test_a_clear_empties_both_sides_of_its_book_alone(engine: Engine) -> None:
    other = rec("A", order_id=9, instrument_id=8)
    batch = play(engine, rec("A"), rec("A", side="A", price=102, order_id=2), other, rec("R", side="N"))
    assert engine.levels(*KEY, SIDE_BID) == engine.levels(*KEY, SIDE_ASK) == []
    assert engine.levels(1, 8, SIDE_BID) == [Level(100, 1, 1)]
    assert effect(batch)[0] == EFFECT_CLEARED


@pytest.mark.parametrize("action", ["T", "F", "N"])
def test_trades_fills_and_nothings_leave_the_book_alone(engine: Engine, action: str) -> None:
    play(engine, rec("A", size=5))
    batch = play(engine, rec(action, size=3))
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, 5, 1)]
    assert len(batch.bbo) == 0
    assert len(batch.levels) == 0
    assert len(batch.trades) == (action == "T")


def test_same_ids_of_two_books_are_two_orders(engine: Engine) -> None:
    play(engine, rec("A", size=5), rec("A", size=6, publisher_id=2), rec("C", size=5))
    assert engine.levels(*KEY, SIDE_BID) == []
    assert engine.levels(2, 7, SIDE_BID) == [Level(100, 6, 1)]


ANOMALIES = [
    (rec("X"), "bad_action", [(1, 5)]),
    (rec("A", side="N", order_id=2), "bad_side", [(1, 5)]),
    (rec("M", side="N"), "bad_side", [(1, 5)]),
    (rec("A", price=UNDEF_PX, order_id=2), "undefined_price", [(1, 5)]),
    (rec("M", price=UNDEF_PX), "undefined_price", [(1, 5)]),
    (rec("T", price=UNDEF_PX), "undefined_price", [(1, 5)]),
    (rec("A", size=0, order_id=2), "zero_size", [(1, 5)]),
    (rec("C", size=0), "zero_size", [(1, 5)]),
    (rec("T", size=0), "zero_size", [(1, 5)]),
    (rec("M", size=0), "zero_size", []),
    (rec("A", size=9), "duplicate_add", [(1, 9)]),
    (rec("C", order_id=2), "unknown_cancel", [(1, 5)]),
    (rec("C", size=6), "oversize_cancel", []),
    (rec("M", size=2, order_id=2), "unknown_modify", [(1, 5), (2, 2)]),
    (rec("F", order_id=2), "unknown_fill", [(1, 5)]),
    (rec("C", side="A", size=1), "side_mismatch", [(1, 4)]),
    (rec("C", price=99, size=1), "price_mismatch", [(1, 4)]),
    (rec("T", flags=F_LAST | F_SNAPSHOT), "snapshot_trade", [(1, 5)]),
    (rec("N", flags=F_LAST | units.F_MAYBE_BAD_BOOK), "maybe_bad_book", [(1, 5)]),
]


@pytest.mark.parametrize(
    ("record", "kind", "left"), ANOMALIES, ids=[f"{each[1]}-{i}" for i, each in enumerate(ANOMALIES)]
)
def test_what_is_wrong_is_counted_and_defined(engine: Engine, record: Any, kind: str, left: Any) -> None:
    play(engine, rec("A", size=5))
    batch = play(engine, record)
    assert engine.anomalies(*KEY) == {kind: 1}
    assert ids(engine) == left
    assert len(batch.trades) == 0


def test_a_modify_to_the_other_side_moves_the_order(engine: Engine) -> None:
    play(engine, rec("A", size=5), rec("M", side="A", price=103, size=5))
    assert ids(engine) == []
    assert ids(engine, side=SIDE_ASK) == [(1, 5)]
    assert engine.anomalies() == {"side_mismatch": 1}


def test_a_modify_that_changes_nothing_after_a_fill_is_a_refill_and_keeps_its_place(engine: Engine) -> None:
    """MARKET_DATA.md item 8."""
    play(engine, rec("A", size=5), rec("A", size=5, order_id=2))
    play(engine, rec("M", size=5))
    assert engine.anomalies() == {}
    play(engine, rec("T", flags=0), rec("F", size=5, flags=0), rec("M", size=5))
    assert engine.anomalies() == {"refill": 1}
    assert ids(engine) == [(1, 5), (2, 5)]
    play(engine, rec("F", size=5), rec("M", size=5))  # two events
    play(engine, rec("F", size=5, order_id=2, flags=0), rec("M", size=5))  # another order's fill
    assert engine.anomalies() == {"refill": 1}


def test_a_top_of_book_add_replaces_its_whole_side(engine: Engine) -> None:
    play(engine, rec("A"), rec("A", price=99, order_id=2), rec("A", side="A", price=105, order_id=3))
    batch = play(engine, rec("A", price=101, size=50, order_id=0, flags=F_LAST | F_TOB))
    assert effect(batch)[0] == EFFECT_REPLACED
    assert engine.levels(*KEY, SIDE_BID) == [Level(101, 50, 1)]
    assert engine.levels(*KEY, SIDE_ASK) == [Level(105, 1, 1)]
    assert engine.place(*KEY, 0) is None  # it is not an order
    play(engine, rec("C", order_id=1))
    assert engine.anomalies() == {"unknown_cancel": 1}
    play(engine, rec("A", price=UNDEF_PX, size=0, flags=F_LAST | F_TOB))
    assert engine.levels(*KEY, SIDE_BID) == []
    assert engine.anomalies() == {"unknown_cancel": 1}


def test_an_aggregated_level_is_set_and_reduced_by_price(engine: Engine) -> None:
    flags = F_LAST | F_MBP
    play(
        engine, rec("A", price=99, order_id=5), rec("A", size=30, flags=flags), rec("A", size=20, flags=flags)
    )
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, 20, 1), Level(99, 1, 1)]
    assert effect(play(engine, rec("C", size=5, flags=flags))) == (EFFECT_REDUCED, 20, 15)
    play(engine, rec("M", price=99, size=8, flags=flags))
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, 15, 1), Level(99, 8, 1)]
    assert engine.place(*KEY, 5) is None
    play(engine, rec("A", size=0, flags=flags))
    assert engine.levels(*KEY, SIDE_BID) == [Level(99, 8, 1)]
    assert engine.anomalies() == {}


def test_nothing_inside_an_event_leaves_the_engine(engine: Engine) -> None:
    batch = engine.apply(rows(rec("A", flags=0), rec("T", flags=0)), 1)
    assert len(batch.bbo) == len(batch.trades) == len(batch.levels) == 0
    assert batch.touched["flags"].tolist() == [BOOK_OPEN]
    assert engine.levels(*KEY, SIDE_BID) == []
    batch = engine.apply(rows(rec("N")), 3)
    assert batch.bbo["ordinal"].tolist() == [3]
    assert batch.trades[["ordinal", "end"]].tolist() == [(2, 3)]
    assert batch.touched[["ordinal", "flags"]].tolist() == [(3, 0)]
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, 1, 1)]


def test_an_event_that_never_ends_is_applied_after_65536_records(engine: Engine) -> None:
    part = np.repeat(rows(rec("A", flags=0)), EVENT_RECORDS_MAX - 1)
    part["order_id"] = np.arange(1, EVENT_RECORDS_MAX)
    assert len(engine.apply(part, 1).bbo) == 0
    batch = engine.apply(rows(rec("N", flags=0), rec("A", price=101, flags=0)), EVENT_RECORDS_MAX)
    assert batch.bbo["ordinal"].tolist() == [EVENT_RECORDS_MAX]
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, EVENT_RECORDS_MAX - 1, EVENT_RECORDS_MAX - 1)]
    assert engine.anomalies() == {"event_too_long": 1}


def test_of_all_books_only_so_many_records_are_held_back(engine: Engine) -> None:
    """The record that makes their number the limit ends its event; those of the other books go on."""
    part = np.repeat(rows(rec("A", flags=0)), CARRY_RECORDS_MAX - 1)
    part["order_id"] = np.arange(1, CARRY_RECORDS_MAX)
    part["instrument_id"] = 7 + np.arange(CARRY_RECORDS_MAX - 1) % 5
    assert len(engine.apply(part, 1).bbo) == 0
    more = rows(*[rec("A", instrument_id=book, order_id=0, flags=0) for book in (8, 9)])
    batch = engine.apply(more, CARRY_RECORDS_MAX)
    assert batch.bbo[["ordinal", "instrument_id"]].tolist() == [(CARRY_RECORDS_MAX, 8)]
    assert engine.anomalies(1, 8) == engine.anomalies() == {"event_too_long": 1}
    assert len(engine.state().carry) == CARRY_RECORDS_MAX - np.count_nonzero(part["instrument_id"] == 8)


def test_a_book_that_gets_another_symbol_first_applies_what_is_held(engine: Engine) -> None:
    """The trades of its open event have been, under the old symbol; the other book's event goes on."""
    open_event = [rec("A", size=9, flags=0), rec("T", size=2, flags=0), rec("T", instrument_id=8, flags=0)]
    engine.apply(rows(*open_event), 1)
    batch = engine.clear(KEY[1], 4)
    assert batch.trades[["ordinal", "end", "size"]].tolist() == [(2, 4, 2)]
    assert engine.books() == [(1, 8)]
    assert engine.apply(rows(rec("N", instrument_id=8)), 5).trades["ordinal"].tolist() == [3]


def test_a_session_that_begins_drops_what_is_held(engine: Engine) -> None:
    """No ordinal of its own session ends that event."""
    engine.apply(rows(rec("T", flags=0)), 7)
    assert len(engine.clear(ordinal=1).trades) == 0
    assert len(engine.apply(rows(rec("N")), 2).trades) == 0


def test_the_end_of_the_session_applies_what_is_held(engine: Engine) -> None:
    engine.apply(rows(rec("A", flags=0)), 1)
    batch = engine.end(9)
    assert batch.bbo["ordinal"].tolist() == [9]
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, 1, 1)]
    assert engine.anomalies() == {"event_unfinished": 1}


def test_a_snapshot_is_published_whole_at_its_end(engine: Engine) -> None:
    play(engine, rec("A", price=50, order_id=9))
    inside = F_SNAPSHOT
    batch = engine.apply(rows(rec("R", flags=inside), rec("A", flags=inside), rec("T", flags=inside)), 2)
    assert len(batch.bbo) == len(batch.levels) == len(batch.trades) == 0
    assert batch.touched["flags"].tolist() == [BOOK_SNAPSHOT]
    batch = engine.apply(rows(rec("A", price=101, order_id=2, flags=inside | F_LAST)), 5)
    assert batch.levels[["price", "size"]].tolist() == [(50, 0), (100, 1), (101, 1)]
    assert batch.bbo["bid_px"].tolist() == [101]
    assert batch.touched["flags"].tolist() == [0]


def test_a_snapshot_without_an_end_is_published_with_the_first_event_after_it(engine: Engine) -> None:
    """Before March 2024: no R, no F_LAST (MARKET_DATA.md item 5)."""
    engine.apply(rows(rec("A", flags=F_SNAPSHOT), rec("A", price=99, order_id=2, flags=F_SNAPSHOT)), 1)
    batch = engine.apply(rows(rec("T", flags=0), rec("C", price=99, order_id=2)), 3)
    assert batch.levels[["price", "size"]].tolist() == [(99, 0), (100, 1)]
    assert len(batch.trades) == 1
    assert batch.bbo["ordinal"].tolist() == [4]


def test_a_snapshot_inside_an_event_takes_over_what_was_held(engine: Engine) -> None:
    engine.apply(rows(rec("A", price=50, order_id=9)), 1)
    batch = engine.apply(rows(rec("R", flags=0), rec("A", flags=F_SNAPSHOT)), 2)
    assert len(batch.levels) == 0
    batch = engine.apply(rows(rec("A", price=99, order_id=2, flags=F_SNAPSHOT | F_LAST)), 4)
    assert engine.levels(*KEY, SIDE_BID) == [Level(100, 1, 1), Level(99, 1, 1)]
    assert engine.anomalies() == {"event_interrupted": 1}


def test_flags_say_crossed_locked_and_maybe_bad(engine: Engine) -> None:
    bad = F_LAST | units.F_MAYBE_BAD_BOOK
    seen = [
        int(engine.apply(rows(record), at).touched["flags"][0])
        for at, record in enumerate(
            [
                rec("A"),
                rec("A", side="A", price=100, order_id=2),
                rec("A", side="A", price=98, order_id=3),
                rec("N", flags=bad),
                rec("C", side="A", price=98, order_id=3),
                rec("R", side="N"),
            ],
            start=1,
        )
    ]
    crossed = BOOK_CROSSED | BOOK_MAYBE_BAD
    assert seen == [0, BOOK_LOCKED, BOOK_CROSSED, crossed, BOOK_LOCKED | BOOK_MAYBE_BAD, 0]


def test_a_place_is_the_orders_and_size_ahead(engine: Engine) -> None:
    play(engine, rec("A", size=5), rec("A", size=7, order_id=2), rec("A", size=9, order_id=3))
    place = engine.place(*KEY, 3)
    assert place is not None
    assert (place.side, place.index, place.ahead, place.order.size, place.order.ts_event) == (
        SIDE_BID,
        2,
        12,
        9,
        1002,
    )
    assert engine.place(*KEY, 4) is None
    assert engine.place(9, 9, 1) is None


def test_clear_forgets_books_and_says_so(engine: Engine) -> None:
    engine.apply(rows(rec("A"), rec("A", instrument_id=8), rec("A", price=99, order_id=2, flags=0)), 1)
    batch = engine.clear(7, 4)
    assert batch.levels[["instrument_id", "price", "size"]].tolist() == [(7, 99, 0), (7, 100, 0)]
    assert batch.bbo[["ordinal", "bid_ct"]].tolist() == [(4, 0)]
    assert engine.books() == [(1, 8)]
    engine.apply(rows(rec("N")), 5)  # what was held is gone too
    assert engine.levels(*KEY, SIDE_BID) == []
    engine.clear()
    assert engine.books() == []
    assert engine.state_hash() == make_engine("raw", "reference").state_hash()


def test_interleaved_trades_come_by_the_end_of_their_events(engine: Engine) -> None:
    records = rows(rec("T", flags=0), rec("T", instrument_id=8), rec("T", flags=0), rec("N"))
    assert engine.apply(records, 1).trades[["ordinal", "end"]].tolist() == [(2, 2), (1, 4), (3, 4)]


def test_read_only_and_unaligned_input_is_taken(engine: Engine) -> None:
    data = b"x" + rows(rec("A"), rec("A", price=101, order_id=2)).tobytes()
    engine.apply(np.frombuffer(data, rows().dtype, offset=1), 1)
    assert engine.levels(*KEY, SIDE_BID) == [Level(101, 1, 1), Level(100, 1, 1)]


def test_another_number_of_orders_at_the_best_price_is_a_change(engine: Engine) -> None:
    play(engine, rec("A", size=5))
    batch = play(
        engine,
        rec("C", size=5, flags=0),
        rec("A", size=2, order_id=2, flags=0),
        rec("A", size=3, order_id=3),
    )
    assert batch.bbo[["bid_px", "bid_sz", "bid_ct"]].tolist() == [(100, 5, 2)]
