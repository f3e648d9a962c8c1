"""A resume beyond what the streams hold: the events a client missed, from its shard's recorded entries."""

from __future__ import annotations

import time
from collections.abc import Iterator

from services.gateway import encode
from services.gateway.channels.mbo import MboTopic
from services.gateway.channels.trades import TradesTopic
from services.gateway.missed import Entries, mbo_missed, trades_missed
from services.gateway.recall_rows import Asked
from services.gateway.shards import ShardBooks
from services.gateway.topic import TopicKey
from services.gateway.vector import Position, ShardKey
from shared.history_client import History, HistoryError, SessionInfo
from shared.orderbook.shard import ShardState
from shared.records import Rows

MAX_RECORDS = 20_000_000  # of the shard to read: some ten seconds
STORED_WITHIN_S = 10.0  # the persister is a moment behind what clients have seen
POLL_S = 0.05


def resume(asked: Asked) -> bytes:
    """`trade` or `mbo` events after `at` up to `until`; HistoryError if they cannot be had exactly."""
    job = asked.job
    history, at, until = asked.directory.history(job["feed"]), Position(*job["at"]), Position(*job["until"])
    key = ShardKey(job["feed"], job["shard"])
    runs = _runs(history, key, at, until)
    missed = sum(last - first + 1 for _, first, last in runs)
    if missed > MAX_RECORDS:
        raise HistoryError(f"{missed} records were missed, at most {MAX_RECORDS} are read")
    info, first, _ = runs[0]
    state = history.state(key.feed, info.run, key.shard, first - 1)
    state.session = at.session
    now = time.time_ns()
    topic_key = TopicKey(job["channel"], key, job["instrument_id"], job["publisher"], 0, 0, job["columns"])
    books = ShardBooks(key, info.policy)
    books.session, books.stamps = until.session, (now, now, now)
    entries = (
        (info.session, entry)
        for info, first, last in runs
        for entry in history.entries(key.feed, info.run, key.shard, first, last)
    )
    if job["channel"] == "mbo":
        topic = MboTopic(topic_key, books, job["symbol"], info.dataset)
        return mbo_missed(topic, state, entries, at, until, job["last_q"])[0]
    trades = TradesTopic(topic_key, books, job["symbol"], info.dataset)
    return trades_missed(trades, _trades(state, entries, until, books.stamps), at, until)


def _runs(
    history: History, key: ShardKey, at: Position, until: Position
) -> list[tuple[SessionInfo, int, int]]:
    """(run, first, last) of the ordinals needed of each session; waits until the last of them is stored."""
    deadline = time.monotonic() + STORED_WITHIN_S
    while True:
        by_session = {info.session: info for info in history.sessions(key.feed)}
        runs = [by_session.get(session) for session in range(at.session, until.session + 1)]
        newest = runs[-1]
        if newest is not None and newest.offsets[key.shard] >= until.ordinal:
            break
        if time.monotonic() > deadline:
            raise HistoryError(f"{until} of shard {key.shard} is not stored yet")
        time.sleep(POLL_S)
    found = []
    for info in runs:
        if info is None:
            raise HistoryError("a session in between is not recorded")
        first = at.ordinal + 1 if info.session == at.session else 1
        last = until.ordinal if info.session == until.session else info.offsets[key.shard]
        found.append((info, first, last))
    return found


def _trades(
    state: ShardState, entries: Entries, until: Position, stamps: encode.Stamps
) -> Iterator[tuple[int, Rows, encode.Stamps]]:
    """TRADE rows as a book worker makes them; HistoryError if the entries end before `until`."""
    session = state.session
    for session, entry in entries:
        yield session, state.apply(entry).trades, stamps
    if (session, state.ordinal) < until:
        raise HistoryError(f"the recording ends at {state.ordinal}, {until.ordinal} is needed")
