"""Tallies, time spans and bars equal their plain definitions."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from services.persist import derive
from services.persist.store import UNDEF
from shared.records import MBO_SIGNED, TRADE, Rows
from tests.support.mbo import START_NS, random_rows


@pytest.mark.parametrize("at", [-1, 0, 40, 41, 99, 200])
def test_the_prefix_up_to_an_instant_is_of_the_running_maximum(at: int) -> None:
    rows = random_rows(100)
    times = np.arange(100, dtype=np.int64)
    times[40] = 60  # late records behind it are covered by its maximum
    rows["ts_recv"] = times.astype(np.uint64)
    expected = int((np.maximum.accumulate(times) <= at).sum())
    assert derive.running_prefix(rows.view(MBO_SIGNED), -1, at) == expected


def test_a_tally_counts_every_book_and_minute_over_any_number_of_books() -> None:
    rows = random_rows(5000, instruments=700)
    rows["publisher_id"] = np.arange(5000) % 3
    rows["action"][::7] = ord("T")
    rows["ts_recv"] = START_NS + np.arange(5000) * 100_000_000
    tally = derive.Tally()
    for at in range(0, 5000, 900):
        tally.add(rows[at : at + 900])
    expected: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, UNDEF, 0])
    minutes: dict[int, Any] = defaultdict(lambda: np.zeros((2, 60), np.int64))
    for r in rows:
        book, second = expected[int(r["instrument_id"]), int(r["publisher_id"])], int(r["ts_recv"]) // 10**9
        counts = np.array([1, r["action"] == ord("T")], np.int64)
        book[0] += int(counts[0])
        book[1] += int(counts[1])
        minutes[second // 60][:, second % 60] += counts
        book[2], book[3] = min(book[2], int(r["ts_recv"])), max(book[3], int(r["ts_recv"]))
    assert {(i, p): sums for i, p, *sums in tally.dirty()} == expected
    assert tally.dirty() == []
    assert tally.minutes.keys() == minutes.keys()
    assert all((tally.minutes[minute] == minutes[minute]).all() for minute in minutes)


def test_a_tally_goes_on_from_what_was_stored() -> None:
    rows = random_rows(400, instruments=90)
    whole, half = derive.Tally(), derive.Tally()
    whole.add(rows)
    half.add(rows[:200])
    again = derive.Tally()
    for row in half.dirty():
        again.load(*row)
    again.add(rows[200:])
    changed = {row[:2]: row for row in again.dirty()}
    assert {instrument for instrument, _ in changed} == set(rows["instrument_id"][200:].tolist())
    assert [row for row in whole.dirty() if row[:2] in changed] == sorted(
        changed.values(), key=_first_seen(rows)
    )


def _first_seen(rows: Rows) -> Any:
    order = {int(instrument): at for at, instrument in reversed(list(enumerate(rows["instrument_id"])))}
    return lambda row: order[row[0]]


def _trades(n: int = 600) -> Rows:
    rng = np.random.default_rng(3)
    trades = np.zeros(n, TRADE)
    trades["ts_recv"] = (
        START_NS + np.cumsum(rng.integers(0, 400_000_000, n)) - rng.integers(0, 3, n) * 500_000_000
    )
    trades["ts_event"] = trades["ts_recv"] - rng.integers(0, 900_000_000, n).astype(
        np.uint64
    )  # not asked for
    trades["price"] = rng.integers(90, 110, n) * 10**9
    trades["size"] = rng.integers(1, 9, n)
    trades["instrument_id"] = rng.integers(1, 4, n)
    trades["publisher_id"] = rng.integers(1, 3, n)
    trades["price"][5] = UNDEF
    return trades


@pytest.mark.parametrize("interval", derive.INTERVALS_S)
def test_merged_bars_equal_the_plain_definition_however_trades_are_cut(interval: int) -> None:
    trades = _trades()
    since = np.where(np.arange(600) < 333, 1, 7)  # every id gets another symbol there, in mid-interval
    expected: dict[tuple[int, int, int, int], list[int]] = {}
    for t, named in zip(trades, since.tolist(), strict=True):
        if t["price"] == UNDEF:
            continue
        ts = int(t["ts_recv"]) // (interval * 10**9) * interval * 10**9
        price, key = int(t["price"]), (int(t["instrument_id"]), int(t["publisher_id"]), ts, named)
        bar = expected.setdefault(key, [price, price, price, price, 0, 0])
        bar[1], bar[2], bar[3] = max(bar[1], price), min(bar[2], price), price
        bar[4] += int(t["size"])
        bar[5] += 1
    for cuts in ([0, 600], [0, 1, 2, 77, 400, 600]):
        merged: dict[tuple[int, int, int, int], list[int]] = {}
        for a, b in pairwise(cuts):
            for bar, named in zip(*derive.bars(trades[a:b], since[a:b], interval), strict=True):
                key = (int(bar["instrument_id"]), int(bar["publisher_id"]), int(bar["ts"]), int(named))
                values = [int(bar[name]) for name in ("open", "high", "low", "close", "volume", "trades")]
                have = merged.setdefault(key, values)
                if have is not values:
                    have[1], have[2], have[3] = max(have[1], values[1]), min(have[2], values[2]), values[3]
                    have[4] += values[4]
                    have[5] += values[5]
        assert merged == expected
