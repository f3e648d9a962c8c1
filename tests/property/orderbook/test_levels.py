"""LevelBooks folded from level rows hold what a dict would."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.orderbook.engines import make_engine
from shared.orderbook.levels import LevelBooks
from shared.orderbook.pick import pick
from shared.records import LEVEL, TOUCHED
from shared.units import SIDE_ASK, SIDE_BID
from tests.property.orderbook.test_engines import profile
from tests.support.orderbook import plausible

row = st.tuples(
    st.sampled_from([1, 2]),
    st.sampled_from([7, 8, 2**32 - 1]),
    st.booleans(),
    st.integers(-40, 40),
    st.integers(0, 3),
)


def check(levels: LevelBooks, true: dict[Any, dict[int, tuple[int, int]]]) -> None:
    for (publisher_id, instrument_id, side), book in true.items():
        px, sz, ct = levels.top(publisher_id, instrument_id, side)
        assert px.tolist() == sorted(book, reverse=side == SIDE_BID)
        assert list(zip(sz.tolist(), ct.tolist(), strict=True)) == [book[price] for price in px.tolist()]
        assert levels.depth(publisher_id, instrument_id, side) == len(book)
        assert levels.top(publisher_id, instrument_id, side, 2)[0].tolist() == px.tolist()[:2]


@profile
@given(drawn=st.lists(row, max_size=120), cut=st.integers(0, 120))
def test_folding_rows_gives_what_a_dict_would(drawn: list[Any], cut: int) -> None:
    rows = np.zeros(len(drawn), LEVEL)
    true: dict[Any, dict[int, tuple[int, int]]] = {}
    for i, (publisher_id, instrument_id, is_ask, price, size) in enumerate(drawn):
        side = SIDE_ASK if is_ask else SIDE_BID
        rows[i] = (instrument_id, publisher_id, side, 0, price, size * 10, size, 0)
        book = true.setdefault((publisher_id, instrument_id, side), {})
        if size:
            book[price] = (size * 10, size)
        else:
            book.pop(price, None)
    levels = LevelBooks()
    levels.fold(rows[:cut])
    levels.fold(rows[cut:])
    check(levels, true)
    levels.clear(instrument_id=7)
    check(levels, {key: {} if key[1] == 7 else book for key, book in true.items()})


@settings(profile, max_examples=20)
@given(seed=st.integers(0, 1000), books=st.sampled_from([1, 3, 300]))
def test_an_engines_rows_folded_are_its_levels(seed: int, books: int) -> None:
    engine, levels, other = make_engine("raw"), LevelBooks(), LevelBooks()
    records = plausible(seed, 3000, books=books, width=400)
    for at in range(0, 3000, 700):
        levels.fold(engine.apply(records[at : at + 700], at).levels)
    other.load(engine.level_rows())
    other.load(engine.level_rows())
    for each in (levels, other):
        for key in engine.books():
            for side in (SIDE_BID, SIDE_ASK):
                px, sz, ct = (column.tolist() for column in each.top(*key, side))
                assert list(zip(px, sz, ct, strict=True)) == [
                    tuple(level) for level in engine.levels(*key, side)
                ]


@profile
@given(
    drawn=st.lists(
        st.tuples(st.sampled_from([1, 2, 65_535]), st.sampled_from([0, 7, 2**32 - 1]), st.integers(0, 255))
    ),
    cut=st.integers(0, 40),
    many=st.sampled_from([0, 200]),
)
def test_touched_rows_leave_the_newest_word_on_each_book(drawn: list[Any], cut: int, many: int) -> None:
    drawn = drawn + [(3, number, 1) for number in range(many)]
    rows = np.zeros(len(drawn), TOUCHED)
    true: dict[tuple[int, int], tuple[int, int, int]] = {}
    for i, (publisher_id, instrument_id, flags) in enumerate(drawn):
        rows[i] = (i, 2**63 - 1 - i, i, instrument_id, publisher_id, flags, 0)
        true[publisher_id, instrument_id] = (2**63 - 1 - i, i, flags)
    levels = LevelBooks()
    fresh = levels.touch(rows[:cut]) + levels.touch(rows[cut:])
    assert fresh == list(
        dict.fromkeys((publisher_id, instrument_id) for publisher_id, instrument_id, _ in drawn)
    )
    assert {key: levels.touched(*key) for key in true} == true
    assert levels.touched(9, 9) == (0, 0, 0)


@profile
@given(
    ids=st.lists(st.sampled_from([0, 1, 5, 9, 2**32 - 1])),
    wanted=st.sets(st.sampled_from([0, 2, 5, 2**32 - 1])),
)
def test_picked_rows_are_those_of_wanted_instruments(ids: list[int], wanted: set[int]) -> None:
    rows = np.zeros(len(ids), TOUCHED)
    rows["instrument_id"], rows["ordinal"] = ids, np.arange(len(ids))
    for each in (rows, np.frombuffer(rows.tobytes(), TOUCHED)):
        picked = pick(each, np.array(sorted(wanted), np.uint32))
        assert picked["ordinal"].tolist() == [i for i, number in enumerate(ids) if number in wanted]
