"""Skipping what a replay repeats: exact for any stream, any break, any replay that is long enough."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.resume import Gap, Tracker
from shared.records import MBO, Rows
from shared.units import F_LAST, F_SNAPSHOT, UNDEF_TS


def stream(spec: list[tuple[int, int | None, int]]) -> Rows:
    """Records of (instrument, ts_event step or None for no time, snapshot or not); `size` numbers them."""
    rows = np.zeros(len(spec), MBO)
    now = 1000
    for index, (instrument, step, is_snapshot) in enumerate(spec):
        now += step or 0
        rows[index]["instrument_id"], rows[index]["publisher_id"] = instrument, 1
        rows[index]["ts_event"] = 500 if is_snapshot else UNDEF_TS if step is None else now
        rows[index]["flags"] = F_SNAPSHOT | F_LAST if is_snapshot else F_LAST
        rows[index]["ts_recv"], rows[index]["size"] = 1000 + index, index
    return rows


def taken(tracker: Tracker, rows: Rows) -> list[int]:
    return [size for piece in tracker.take(rows) for size in sizes(piece)]


def sizes(piece: Rows | Gap) -> list[int]:
    assert not isinstance(piece, Gap)
    return [int(size) for size in piece["size"]]


events = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([0, 0, 0, 1, 2, -1, None]), st.sampled_from([0, 0, 0, 1])),
    min_size=1,
    max_size=60,
)


@given(events, st.lists(st.integers(0, 60), max_size=6), st.integers(0, 5))
def test_any_breaks_give_every_record_once_in_order(
    spec: list[tuple[int, int | None, int]], breaks: list[int], extra: int
) -> None:
    """Times stand still, go back, are missing; records are told apart by place alone."""
    rows = stream([(1, 0, 0), (2, 0, 0), (3, 0, 0), *spec])
    tracker = Tracker()
    got = taken(tracker, rows[:3])
    reached = 3
    for stop in [*sorted(min(each + 3, len(rows)) for each in breaks), len(rows)]:
        start = tracker.reconnect(10**12)
        plain = rows["flags"] & F_SNAPSHOT == 0
        first = np.flatnonzero(plain & (rows["ts_event"] >= start))
        begin = max(0, int(first[0]) - extra)
        got += taken(tracker, rows[begin:stop])
        reached = max(reached, stop)
    assert got == list(range(len(rows)))


def test_equal_records_are_told_apart_by_their_number() -> None:
    rows = stream([(1, 0, 0)] * 10)
    rows["size"] = 7
    tracker = Tracker()
    assert len(taken(tracker, rows[:4])) == 4
    assert tracker.reconnect(10**12) == rows["ts_event"][0]
    assert len(taken(tracker, rows)) == 6


def test_a_replay_that_begins_too_late_is_a_gap_of_that_instrument() -> None:
    rows = stream([(1, 1, 0), (2, 1, 0), (1, 1, 0), (2, 1, 0), (1, 1, 0)])
    tracker = Tracker()
    taken(tracker, rows[:3])
    tracker.reconnect(10**12)
    pieces = tracker.take(rows[4:])
    assert pieces[0] == Gap(1, int(rows["ts_event"][2]), int(rows["ts_event"][4]))
    assert sizes(pieces[1]) == [4]


def test_the_replay_begins_at_the_quietest_instrument_but_not_before_the_lookback() -> None:
    rows = stream([(1, 1, 0), (2, 1000, 0), (2, 1000, 0)])
    rows["ts_recv"] = rows["ts_event"]
    tracker = Tracker()
    taken(tracker, rows)
    assert tracker.reconnect(10**12) == rows["ts_event"][0]
    assert tracker.reconnect(1500) == int(rows["ts_event"][2]) - 1500
    later = stream([(1, 5000, 0)])
    assert taken(tracker, later) == [0], (
        "an instrument quiet for longer than the lookback: what it sends is new"
    )


def test_a_broken_snapshot_is_known() -> None:
    rows = stream([(1, 1, 1), (1, 1, 1), (1, 1, 0)])
    rows["flags"][0] = F_SNAPSHOT
    tracker = Tracker()
    tracker.take(rows[:1])
    assert tracker.has_open_snapshot
    tracker.take(rows[1:2])
    assert not tracker.has_open_snapshot


@pytest.mark.parametrize("count", [100, 5000])
def test_the_table_grows(count: int) -> None:
    rows = stream([(index + 1, 1, 0) for index in range(count)])
    tracker = Tracker()
    assert taken(tracker, rows) == list(range(count))
    again = Tracker(tracker.state())
    again.newest_recv = tracker.newest_recv
    again.reconnect(10**12)
    assert taken(again, rows) == []


def test_a_record_without_ts_event_is_not_where_the_replay_is_waited_for() -> None:
    """By it, the greatest number, everything that a replay brings would be known already."""
    rows = stream([(1, 0, 0), (1, None, 0), (1, 1, 0), (1, 1, 0), (1, 1, 0)])
    tracker = Tracker()
    assert taken(tracker, rows[:4]) == [0, 1, 2, 3]
    assert tracker.reconnect(10**12) == 1002
    assert taken(tracker, rows[3:]) == [4]


def test_a_record_without_ts_recv_does_not_move_the_lookback() -> None:
    rows = stream([(1, 0, 0), (1, 1, 0)])
    rows["ts_recv"][1] = UNDEF_TS
    tracker = Tracker()
    taken(tracker, rows)
    assert tracker.reconnect(10**12) == 1001
