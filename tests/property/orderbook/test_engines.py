"""On ANY list of records, however cut, the kernel and the reference agree on every output, view, counter and image.

MBO_PROPERTY_EXAMPLES sets the number of lists (default 300 a test here; 100,000 is the long proof of the README).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.orderbook import engine
from shared.orderbook.engine import Batch, Policy
from shared.orderbook.engines import make_engine
from shared.orderbook.kernel import MANY_BOOKS
from shared.records import BOOK_SNAPSHOT, MBO, Rows
from shared.units import F_LAST, F_TOB
from tests.support.orderbook import Pair, fold, hostile_record, plausible, records_of

EXAMPLES = int(os.environ.get("MBO_PROPERTY_EXAMPLES", "300"))
profile = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
policies = st.sampled_from(["uncross", "raw", "execute"])
lists = st.lists(hostile_record, max_size=40)
# Steps between batches: how many records to take, and what to do after them.
cuts = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["", "", "", "restore", "end", "clear", "clear 7"]))
)


def _crowd() -> Rows:
    """So many books that the kernel looks ahead, which it does in long batches of many books only."""
    rows = np.zeros(MANY_BOOKS + 1, MBO)
    rows["publisher_id"], rows["instrument_id"], rows["flags"] = 1, 1_000 + np.arange(len(rows)), F_LAST
    rows["action"], rows["side"], rows["price"], rows["size"], rows["order_id"] = (
        ord("A"),
        ord("B"),
        100,
        1,
        1,
    )
    return rows


CROWD = _crowd()
A, B = (0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 1)  # adds inside an event, of two books


@profile
@given(policy=policies, drawn=lists, steps=cuts)
# Found by the long run: what waited for a snapshot's end comes first in the level rows, after a restore too.
@example(
    policy="raw",
    drawn=[A, (0, 0, 8, 0, 0, 0, 1), (0, 0, 3, 0, 0, 0, 0), (0, 0, 3, 0, 0, 0, 1)],
    steps=[(2, "restore")],
)
# The same, when one of two waiting books enters its next snapshot in that batch.
@example(
    policy="raw",
    drawn=[
        (0, 0, 8, 0, 0, 0, 0),
        (0, 0, 8, 0, 0, 0, 1),
        (0, 0, 3, 0, 0, 0, 0),
        (0, 0, 3, 0, 0, 0, 1),
        (0, 0, 8, 0, 0, 0, 1),
    ],
    steps=[(2, "")],
)
# Level rows of interleaved events go by the records that touched the levels, not by the events' ends.
@example(policy="raw", drawn=[A, B, (0, 0, 3, 1, 0, 1, 1), (0, 0, 3, 1, 0, 1, 0)], steps=[(0, "end")])
@example(policy="raw", drawn=[B, A], steps=[(2, "end")])
# A snapshot that interrupts an open event takes its open flag away.
@example(policy="raw", drawn=[A, (0, 0, 8, 1, 0, 1, 0)], steps=[(1, "")])
# What a batch touched before a snapshot in it is published, not kept back.
@example(policy="raw", drawn=[(0, 0, 3, 0, 0, 0, 0), (0, 0, 8, 1, 0, 1, 0)], steps=[])
def test_kernel_and_reference_agree_on_any_records_in_any_batches(
    policy: Policy, drawn: list[Any], steps: list[tuple[int, str]]
) -> None:
    _agree(policy, drawn, steps)


def _agree(policy: Policy, drawn: list[Any], steps: list[tuple[int, str]]) -> None:
    records, pair, at, ordinal = records_of(drawn), Pair(policy), 0, 1
    for take, then in [*steps, (len(records), ""), (0, "end")]:
        part = records[at : at + take]
        pair.apply(part, ordinal)
        at, ordinal = at + len(part), ordinal + len(part)
        if then == "restore":
            pair.restore()
        elif then == "end":
            pair.end()
            ordinal += 1
        elif then:
            pair.clear(7 if then == "clear 7" else None)
            ordinal += 1
    pair.same_views()


@contextmanager
def few_held() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CARRY_RECORDS_MAX", 4)
        yield


@profile
@given(policy=policies, drawn=lists, steps=cuts)
# A snapshot, an end and another symbol make room again.
@example(
    policy="raw", drawn=[A, B, A, (0, 0, 8, 0, 0, 0, 0), A, A, B, B], steps=[(5, "restore"), (2, "clear 7")]
)
def test_they_agree_when_a_shard_holds_back_few_records(
    policy: Policy, drawn: list[Any], steps: list[tuple[int, str]]
) -> None:
    with few_held():
        _agree(policy, drawn, steps)


@profile
@given(policy=policies, drawn=lists, sizes=st.lists(st.integers(1, 12)), few=st.booleans())
def test_cutting_the_input_differently_changes_no_output(
    policy: Policy, drawn: list[Any], sizes: list[int], few: bool
) -> None:
    with few_held() if few else nullcontext():
        _same_however_cut(policy, drawn, sizes)


def _same_however_cut(policy: Policy, drawn: list[Any], sizes: list[int]) -> None:
    records = records_of(drawn)
    whole, parts = make_engine(policy), make_engine(policy)
    once = whole.apply(records, 5, effects=True)
    batches: list[Batch] = []
    folded: dict[Any, tuple[int, int]] = {}
    at = 0
    for size in [*sizes, len(records)]:
        part = records[at : at + size]
        batches.append(parts.apply(part, 5 + at, effects=True))
        at += len(part)
        _levels_hold(parts, batches[-1], folded)
    for name in ("bbo", "trades", "auctions", "effect_records"):
        cut = np.concatenate([getattr(batch, name) for batch in batches])
        assert getattr(once, name).tobytes() == cut.tobytes(), name
    effects = np.concatenate([batch.effects for batch in batches])
    assert once.effects is not None
    for name in ("ordinal", "end", "size_before", "size_after", "effect", "why"):
        assert once.effects[name].tolist() == effects[name].tolist(), name
    assert whole.image() == parts.image()


def _levels_hold(engine: Any, batch: Batch, folded: dict[Any, tuple[int, int]]) -> None:
    """Folded level rows are the state of every book that is not inside a snapshot; no level is there twice."""
    rows = batch.levels
    assert (
        len(np.unique(rows))
        == len(np.unique(rows[["instrument_id", "publisher_id", "side", "price"]]))
        == len(rows)
    )
    fold(folded, rows)
    hidden = {
        (row["publisher_id"], row["instrument_id"])
        for row in engine.touched_rows()
        if row["flags"] & BOOK_SNAPSHOT
    }
    true: dict[Any, tuple[int, int]] = {}
    fold(true, engine.level_rows())
    shown = {key: level for key, level in true.items() if key[:2] not in hidden}
    assert {key: level for key, level in folded.items() if key[:2] not in hidden} == shown


@settings(profile, max_examples=max(20, EXAMPLES // 50))
@given(
    policy=policies,
    seed=st.integers(0, 2**32),
    n=st.integers(1, 1500),
    width=st.sampled_from([5, 40, 2000]),
    step=st.integers(1, 400),
    crossing=st.sampled_from([0.0, 0.02, 0.3]),
    crowd=st.booleans(),
)
def test_they_agree_on_plausible_flow_in_deep_books(
    policy: Policy, seed: int, n: int, width: int, step: int, crossing: float, crowd: bool
) -> None:
    records, pair = plausible(seed, n, width=width, crossing=crossing), Pair(policy)
    if crowd:
        pair.apply(CROWD, 0)
    for at in range(0, n, step):
        pair.apply(records[at : at + step], len(CROWD) + at, effects=False)
        if at % 3 == 0:
            pair.restore()
    pair.same_views(order_ids=range(1, 40))


@settings(profile, max_examples=max(50, EXAMPLES // 10))
@given(policy=policies, drawn=st.lists(hostile_record, min_size=13, max_size=80), cut=st.integers(0, 80))
def test_they_agree_on_any_records_among_many_books(policy: Policy, drawn: list[Any], cut: int) -> None:
    records, pair = records_of(drawn), Pair(policy)
    pair.apply(CROWD, 0)
    pair.apply(records[:cut], len(CROWD))
    pair.apply(records[cut:], len(CROWD) + len(records[:cut]))


@settings(profile, max_examples=max(50, EXAMPLES // 10))
@given(drawn=lists)
def test_a_book_is_the_same_alone_and_among_others(drawn: list[Any]) -> None:
    records = records_of(drawn)
    together = make_engine("uncross")
    together.apply(records, 0)
    for publisher_id, instrument_id in together.books():
        mine = (records["publisher_id"] == publisher_id) & (records["instrument_id"] == instrument_id)
        alone = make_engine("uncross")
        alone.apply(records[mine], 0)
        key = (publisher_id, instrument_id)
        assert alone.order_rows(*key).tobytes() == together.order_rows(*key).tobytes()
        assert alone.anomalies(*key) == together.anomalies(*key)
        assert alone.view(*key) == together.view(*key)


# Runs of levels: (what, first price, how many, step between prices).
runs = st.tuples(
    st.sampled_from("AAACCMRT"), st.integers(0, 400), st.integers(1, 250), st.sampled_from([-3, -1, 1, 2])
)


@settings(profile, max_examples=max(30, EXAMPLES // 10))
@given(policy=policies, drawn=st.lists(runs, min_size=1, max_size=12), crossed=st.booleans())
def test_they_agree_on_sides_of_many_chunks(policy: Policy, drawn: list[Any], crossed: bool) -> None:
    """One order a level, named by its price: runs of levels come and go, so that chunks split, empty and join."""
    pair, ordinal = Pair(policy), 1
    for what, first, count, step in drawn:
        prices = first + step * np.arange(1 if what in "RT" else count)
        records = np.zeros(len(prices), MBO)
        records["publisher_id"], records["instrument_id"], records["flags"] = 1, 7, F_LAST
        records["action"], records["side"], records["size"] = ord("A" if what == "T" else what), ord("B"), 1
        records["price"], records["order_id"] = prices, prices + 10_000
        if what == "M":
            records["price"] += 150
        if what == "T":
            records["flags"] |= F_TOB
        if crossed and first % 3 == 0:
            records["side"] = ord("A")
            records["order_id"] += 50_000
        pair.apply(records, ordinal, effects=False)
        ordinal += len(records)
    pair.same_views(order_ids=(10_000, 10_100))
