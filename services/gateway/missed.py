"""What a returning client missed of its lossless channels: a shard's input entries behind its position, as events."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from services.gateway import encode
from services.gateway.channels.mbo import MboTopic
from services.gateway.channels.trades import TradesTopic
from services.gateway.orders import Applied, Orders, of_instrument
from services.gateway.vector import Position
from shared.errors import Gap
from shared.orderbook.shard import ShardState
from shared.records import Rows, joined
from shared.wire.codec import InEntry

BATCH_RECORDS = 1000  # of an `mbo` event
MAX_BYTES = 64 * 1024 * 1024  # of one view's events: who missed more starts anew
Entries = Iterable[tuple[int, InEntry]]  # (session, entry): contiguous


def mbo_missed(
    topic: MboTopic, state: ShardState, entries: Entries, at: Position, until: Position, last_q: int
) -> tuple[bytes, int]:
    """(events of the records after `at` up to `until`, the q a client stands at before them).

    `state` stands at or before `at`; the entries follow it. The last event's q is `last_q`, where the live chain goes
    on. Raises Gap if the entries do not reach `until`, or there is too much of it.
    """
    orders = Orders(state)
    parts: list[bytes] = []
    size, p = 0, at.ordinal
    held: tuple[Rows, Rows] | None = None  # the newest events: only at the end is it known which is the last
    stamps = encode.stamps(topic.books.stamps, time.time_ns())
    for session, entry in entries:
        orders.put(session, entry)
        if (session, entry.first) <= at:
            orders.advance(*at)  # silently: the client has it
        mine = of_instrument(orders.advance(*until), topic.key.instrument_id, topic.key.publisher)
        if mine is None:
            continue
        if held is not None:
            mine = Applied(joined((held[0], mine[0])), joined((held[1], mine[1])))
        *whole, held = _batches(*mine)
        for records, effects in whole:
            q = int(effects["end"][-1])
            parts.append(topic.encode(records, effects, p, q, stamps))
            size, p = size + len(parts[-1]), q
        check_size(size)
    if Position(orders.state.session, orders.state.ordinal) < until:
        raise Gap(f"the records end at {orders.state.ordinal}, {until.ordinal} is needed")
    if held is None:
        return b"", last_q
    return b"".join((*parts, topic.encode(*held, p, last_q, stamps))), at.ordinal


def _batches(records: Rows, effects: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Cut at event ends, about BATCH_RECORDS each."""
    ends, start = effects["end"], 0
    while start < len(records):
        stop = min(start + BATCH_RECORDS, len(records))
        while stop < len(records) and ends[stop] == ends[stop - 1]:
            stop += 1
        yield records[start:stop], effects[start:stop]
        start = stop


def trades_missed(
    topic: TradesTopic, batches: Iterable[tuple[int, Rows, encode.Stamps]], at: Position, until: Position
) -> bytes:
    """Events of the trades whose event ended after `at` and up to `until`, of TRADE rows by session."""
    parts: list[bytes] = []
    size = 0
    for session, rows, stamps in batches:
        mask = rows["instrument_id"] == topic.key.instrument_id
        if topic.key.publisher is not None:
            mask &= rows["publisher_id"] == topic.key.publisher
        if session == at.session:
            mask &= rows["end"] > at.ordinal
        if session == until.session:
            mask &= rows["end"] <= until.ordinal
        if mask.any():
            parts.append(topic.encode(rows[mask], encode.stamps(stamps, time.time_ns()), session))
            size += len(parts[-1])
            check_size(size)
    return b"".join(parts)


def check_size(size: int) -> None:
    """Raises Gap: the client missed more than is made up for."""
    if size > MAX_BYTES:
        raise Gap(f"more than {MAX_BYTES} bytes were missed")
