"""What compiled code writes is what the plain encoder would."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import encode, written
from shared.records import BBO, BOOK_CROSSED, TRADE
from shared.units import SIDE_ASK, SIDE_BID, UNDEF_PX

PRICES = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-1000, 1000).map(lambda n: n * 10_000_000),
    st.just(UNDEF_PX),
)
SIZES = st.sampled_from([0, 1, 9, 10, 2**32, 2**63 - 1])
COUNTS = st.sampled_from([0, 1, 2**32 - 1])
ROWS = st.lists(
    st.tuples(PRICES, PRICES, SIZES, SIZES, COUNTS, COUNTS, st.booleans(), st.integers(1, 2)), max_size=6
)
HEAD = b'event: bbo\ndata: {"view":"x"'


@given(drawn=ROWS, stale=st.booleans())
def test_best_prices(drawn: list[Any], stale: bool) -> None:
    rows = np.zeros(len(drawn), BBO)
    expected: list[dict[str, Any]] = []
    last: Any = None
    for i, (bid, ask, bid_sz, ask_sz, bid_ct, ask_ct, crossed, instrument) in enumerate(drawn):
        flags = 8 | (BOOK_CROSSED if crossed else 0)
        rows[i] = (i, 2**64 - 1, i, instrument, 9, flags, 0, bid, ask, bid_sz, ask_sz, bid_ct, ask_ct)
        row = (bid, ask, bid_sz, ask_sz, bid_ct, ask_ct, crossed)
        if instrument == 1 and row != last:
            last = row
            expected.append({
                "view": "x", "ordinal": i, "ts_event": str(2**64 - 1), "ts_recv": str(i),
                "bid": encode.best(bid, bid_sz, bid_ct), "ask": encode.best(ask, ask_sz, ask_ct),
                "crossed": crossed, "stale": stale, "stamps": [1],
            })  # fmt: skip
    said, tail = written.Said(), encode.close_event([1])
    text = written.bbo_events(rows, 1, 9, stale=stale, last=said, head=HEAD, tail=tail)
    assert text == b"".join(encode.event("bbo", body) for body in expected)
    assert said.is_empty == (not expected)
    if expected:
        again = written.bbo_events(
            said.row(1), 1, None, stale=said.stale, last=said, head=HEAD, tail=tail, anyway=True
        )
        assert again == encode.event("bbo", expected[-1])
        assert not written.bbo_events(said.row(1), 1, None, stale=stale, last=said, head=HEAD, tail=tail)
        assert said.publisher == 9
    assert not written.bbo_events(rows, 1, 8, stale=stale, last=written.Said(), head=HEAD, tail=tail)


WORD, HALF = st.sampled_from([0, 9, 10, 2**63, 2**64 - 1]), st.sampled_from([0, 1, 2**32 - 1])
TRADES = st.lists(
    st.tuples(
        WORD, WORD, WORD, WORD, PRICES.filter(lambda px: px != UNDEF_PX), HALF, st.integers(1, 2), HALF,
        st.sampled_from([0, 7, 2**16 - 1]), st.sampled_from(b"BAN"), st.integers(0, 255),
    ),
    max_size=6,
)  # fmt: skip


@given(rows=TRADES, publisher=st.sampled_from([None, 7]))
def test_trades(rows: list[Any], publisher: int | None) -> None:
    head = {"view": "x", "session": 3}
    said = written.trade_events(
        np.array(rows, TRADE),
        1,
        publisher,
        head=encode.open_event("trade", head),
        tail=encode.close_event([1]),
    )
    mine = [row for row in rows if row[6] == 1 and publisher in (None, row[8])]
    assert said == b"".join(
        encode.event("trade", {"view": "x", **encode.trade(row, 3), "stamps": [1]}) for row in mine
    )


def test_a_side_that_is_none_is_said_as_none() -> None:
    row = np.array([(1, 1, 1, 1, 5, 1, 1, 1, 1, ord('"'), 0)], TRADE)
    assert b'"side":"N"' in written.trade_events(row, 1, None, head=b"", tail=b"")
    assert encode.trade(row.tolist()[0], 1)["side"] == "N"


SIDE = st.dictionaries(PRICES, st.tuples(st.integers(0, 2), st.integers(1, 2)), max_size=8)


@given(sides=st.lists(SIDE, max_size=4), kept=st.integers(0, 8), side=st.sampled_from([SIDE_BID, SIDE_ASK]))
def test_level_changes(sides: list[Any], kept: int, side: int) -> None:
    said, old = written.SaidSide(side), dict[Any, Any]()
    for drawn in sides:
        new = drawn | dict(list(old.items())[:kept])
        changed = sorted({px for px in old | new if old.get(px) != new.get(px)}, reverse=side == SIDE_BID)
        expected = [[encode.px_text(px), *new.get(px, (0, 0))] for px in changed]
        levels = [(px, *new[px]) for px in sorted(new, reverse=side == SIDE_BID)]
        assert orjson.loads(said.move_to(levels)) == expected
        assert said.levels() == levels
        assert said.best == (levels[0][0] if levels else None)
        old = new
