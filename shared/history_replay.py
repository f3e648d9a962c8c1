"""Recorded data by market time: shards of a run merged as they happened, for replay and the pictures of the page."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from shared.history import History
from shared.orderbook.shard import ShardState
from shared.records import recv_times
from shared.wire.codec import InEntry

QUANTUM_NS = 5_000_000


class Step(NamedTuple):
    """Some entries' worth of one shard: contiguous with the shard's step before."""

    ts: int  # ns: running maximum of ts_recv at its first record
    shard: int
    entry: InEntry


class Replay:
    """`states`: every shard just before the first step. Iterating gives steps by ts; apply them to `states`."""

    def __init__(self, states: dict[int, ShardState], steps: Iterator[Step]) -> None:
        self.states = states
        self._steps = steps

    def __iter__(self) -> Iterator[Step]:
        return self._steps


def replay(
    history: History, feed: str, run: int, shards: Sequence[int], *, start: int | None = None, end: int | None = None,
    quantum_ns: int = QUANTUM_NS, after: Mapping[int, int] | None = None,
) -> Replay:  # fmt: skip
    """A run's shards from `start` (or from right after the ordinals `after`, to resume exactly) until before `end`.

    A step spans at most `quantum_ns` of market time, so shards interleave as finely as that.
    """
    if after is None:
        at = [0] * (max(shards) + 1) if start is None else history.position(feed, run, start - 1)
        begin = {shard: at[shard] for shard in shards}
    else:
        begin = {shard: after[shard] for shard in shards}
    states = {shard: history.state(feed, run, shard, ordinal) for shard, ordinal in begin.items()}
    stop = None if end is None else history.position(feed, run, end - 1)
    steps = [
        _steps(
            history.entries(feed, run, shard, begin[shard] + 1, None if stop is None else stop[shard]),
            shard, quantum_ns, start or 0,
        )
        for shard in shards
    ]  # fmt: skip
    return Replay(states, heapq.merge(*steps, key=attrgetter("ts")))


def _steps(entries: Iterator[InEntry], shard: int, quantum_ns: int, ts: int) -> Iterator[Step]:
    for entry in entries:
        if entry.records is None:
            yield Step(ts, shard, entry)
            continue
        times = np.maximum(np.maximum.accumulate(recv_times(entry.records)), np.uint64(ts))
        cuts = [0, *(np.flatnonzero(np.diff(times // np.uint64(quantum_ns))) + 1).tolist(), entry.n]
        for a, b in itertools.pairwise(cuts):
            yield Step(
                int(times[a]),
                shard,
                entry._replace(n=b - a, first=entry.first + a, records=entry.records[a:b]),
            )
        ts = int(times[-1])
