"""Any rows come back from a block bit for bit, whatever their fields hold; damage is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.blocks import Block, Encoder
from shared.errors import StoreError
from shared.records import BBO, MBO, Rows

ENCODER = Encoder()  # one for all examples: what it learned of a block must not matter for the next
EDGES = {
    "<u8": (0, 1, 2**63 - 1, 2**63, 2**64 - 1), "<i8": (0, -1, 2**63 - 1, -(2**63), 64_830_000_000),
    "<u4": (0, 1, 2**32 - 1), "<i4": (0, -1, 2**31 - 1, -(2**31)), "<u2": (0, 1, 2**16 - 1), "|u1": (0, 65, 128, 255),
}  # fmt: skip


@st.composite
def rows_of(draw: Any, layout: np.dtype[Any], most: int = 60) -> Rows:
    """Fields from a few values each, half of them the type's edges: repeats and jumps are where deltas go wrong."""
    n = draw(st.integers(1, most))
    rows = np.zeros(n, layout)
    assert layout.names is not None
    for name in layout.names:
        kind = layout[name].str
        info = np.iinfo(layout[name])
        value = st.one_of(st.sampled_from(EDGES[kind]), st.integers(int(info.min), int(info.max)))
        pool = draw(st.lists(value, min_size=1, max_size=4))
        rows[name] = [pool[i % len(pool)] for i in draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))]
    return rows


def _bounds(times: Any) -> tuple[int, int]:
    known = [time for time in times.tolist() if time < 2**63]
    return (min(known), max(known)) if known else (2**63 - 1, 0)


@settings(max_examples=150, deadline=None)
@given(rows_of(MBO), st.data())
def test_records_and_ordinals_come_back_exactly(rows: Rows, data: Any) -> None:
    steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 300]), min_size=len(rows), max_size=len(rows)))
    first = data.draw(st.sampled_from([1, 2, 10**12]))
    ordinals = first - 1 + np.cumsum(np.array(steps, np.uint64), dtype=np.uint64)
    block = Block(ENCODER.mbo(rows, ordinals))
    found = block.mbo()
    assert found.rows.tobytes() == rows.tobytes()
    assert (found.ordinals == ordinals).all()
    assert ENCODER.last_ids().tolist() == block.ids.tolist()
    assert ENCODER.last_times() == (*_bounds(rows["ts_recv"]), *_bounds(rows["ts_event"]))
    for instrument in (*set(rows["instrument_id"].tolist()), 12345):
        mine = rows["instrument_id"] == instrument
        one = block.mbo(instrument)
        assert one.rows.tobytes() == rows[mine].tobytes()
        assert (one.ordinals == ordinals[mine]).all()
        assert block.has(instrument) == bool(mine.any())


@settings(max_examples=100, deadline=None)
@given(rows_of(BBO))
def test_bbo_rows_come_back_exactly(rows: Rows) -> None:
    block = Block(ENCODER.bbo(rows, 1, 10**6))
    assert block.bbo().tobytes() == rows.tobytes()
    assert (block.head.first, block.head.last) == (1, 10**6)
    instrument = int(rows["instrument_id"][0])
    assert block.bbo(instrument).tobytes() == rows[rows["instrument_id"] == instrument].tobytes()


@settings(max_examples=100, deadline=None)
@given(rows_of(MBO, 20), st.data())
def test_a_changed_or_cut_block_is_refused(rows: Rows, data: Any) -> None:
    blob = ENCODER.mbo(rows, np.arange(1, len(rows) + 1, dtype=np.uint64))
    at = data.draw(st.integers(0, len(blob) - 1))
    changed = bytearray(blob)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreError):
        Block(bytes(changed)).mbo()
    with pytest.raises(StoreError):
        Block(blob[:at]).mbo()


@pytest.mark.parametrize("instruments", [1, 7, 5000, 20_000])
def test_large_blocks_of_few_and_many_instruments(instruments: int) -> None:
    rng = np.random.default_rng(instruments)
    rows = np.frombuffer(rng.bytes(20_000 * 56), MBO).copy()
    rows["instrument_id"] = rng.integers(0, instruments, len(rows))
    ordinals = np.arange(5, 5 + len(rows), dtype=np.uint64)
    found = Block(ENCODER.mbo(rows, ordinals)).mbo()
    assert found.rows.tobytes() == rows.tobytes()
    assert (found.ordinals == ordinals).all()


def test_a_block_over_its_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 65536"):
        ENCODER.mbo(np.zeros(65_537, MBO), np.arange(65_537, dtype=np.uint64))
    with pytest.raises(ValueError, match="missing inside"):
        ENCODER.mbo(np.zeros(2, MBO), np.array([1, 10**9], np.uint64))


def test_a_block_of_one_kind_is_not_read_as_the_other() -> None:
    """The kernels read without bounds: a block asked for the other kind's rows was decoded from memory beside it."""
    records, best = np.zeros(2, MBO), np.zeros(2, BBO)
    with pytest.raises(StoreError, match="another kind"):
        Block(ENCODER.mbo(records, np.arange(1, 3, dtype=np.uint64))).bbo()
    with pytest.raises(StoreError, match="another kind"):
        Block(ENCODER.bbo(best, 1, 2)).mbo()
