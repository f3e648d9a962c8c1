"""Orders (L3) of one shard: `:in` applied with the engine, never past the shard's `:out` position."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from services.gateway import encode
from shared.errors import Gap
from shared.orderbook.engine import Engine
from shared.orderbook.shard import ShardState
from shared.records import Rows, joined
from shared.units import SIDE_ASK, SIDE_BID
from shared.wire.codec import InEntry

MAX_QUEUED_RECORDS = 1_000_000  # of `:in` ahead of `:out`; past it the reader waits


class Applied(NamedTuple):
    """Records applied in one advance, in order of application, and what each did."""

    records: Rows
    effects: Rows


class Orders:
    """An engine behind the levels: entries wait here until `:out` has reached them."""

    def __init__(self, state: ShardState) -> None:
        self.state = state
        self.queue: deque[tuple[int, InEntry]] = deque()  # (session, entry)
        self.queued = 0
        self._last = (state.session, state.ordinal)  # of the newest entry put

    def reaches(self, session: int, ordinal: int) -> bool:
        """Whether everything up to (session, ordinal) is applied or waits here."""
        return self._last >= (session, ordinal)

    def put(self, session: int, entry: InEntry) -> None:
        self._last = (session, entry.last)
        self.queue.append((session, entry))
        self.queued += entry.n

    def advance(self, session: int, ordinal: int) -> list[Applied]:
        """Apply everything up to (session, ordinal); raises Gap if entries do not follow each other."""
        done: list[Applied] = []
        while self.queue and (self.state.session, self.state.ordinal) < (session, ordinal):
            at, entry = self.queue[0]
            if (at, entry.first) > (session, ordinal):
                break
            self.queue.popleft()
            self.queued -= entry.n
            if at == session and entry.last > ordinal:
                entry, rest = split(entry, ordinal)
                self.queue.appendleft((at, rest))
                self.queued += rest.n
            done.extend(self._apply(at, entry))
        return done

    def _apply(self, session: int, entry: InEntry) -> list[Applied]:
        stands = self.state.ordinal if session == self.state.session else 0
        if session < self.state.session or entry.last <= stands:
            return []
        if entry.first > stands + 1:
            raise Gap(f"orders stand at {stands}, the next entry begins at {entry.first}", session=session)
        if entry.first <= stands:
            entry = split(entry, stands)[1]
        batch = self.state.apply(entry, effects=True)
        if batch.effects is None or not len(batch.effects):
            return []
        assert batch.effect_records is not None
        return [Applied(batch.effect_records[batch.effects["row"]], batch.effects)]


def split(entry: InEntry, ordinal: int) -> tuple[InEntry, InEntry]:
    """A records entry cut after `ordinal`: what broker losses and drain positions make necessary."""
    assert entry.records is not None
    n = ordinal - entry.first + 1
    head = entry._replace(n=n, records=entry.records[:n])
    return head, entry._replace(n=entry.n - n, first=ordinal + 1, records=entry.records[n:])


def of_instrument(parts: Sequence[Applied], instrument_id: int, publisher: int | None) -> Applied | None:
    """The records of one instrument (of one publisher) among `parts`; None for none."""
    found = []
    for part in parts:
        mask = part.records["instrument_id"] == instrument_id
        if publisher is not None:
            mask &= part.records["publisher_id"] == publisher
        if mask.any():
            found.append((part.records[mask], part.effects[mask]))
    if not found:
        return None
    if len(found) == 1:
        return Applied(*found[0])
    return Applied(joined([f[0] for f in found]), joined([f[1] for f in found]))


def orders_body(engine: Engine, publishers: Sequence[int], instrument_id: int) -> dict[str, Any]:
    """`bids` and `asks` of an L3 snapshot: [price, [[order_id, size, ts_event, publisher_id], …]], best first."""
    sides: dict[int, dict[int, list[tuple[str, int, str, int]]]] = {SIDE_BID: {}, SIDE_ASK: {}}
    for publisher in publishers:
        for order_id, ts_event, price, size, side, _, _ in engine.order_rows(
            publisher, instrument_id
        ).tolist():
            sides[side].setdefault(price, []).append((str(order_id), size, str(ts_event), publisher))
    bids = [(encode.px_text(px), sides[SIDE_BID][px]) for px in sorted(sides[SIDE_BID], reverse=True)]
    asks = [(encode.px_text(px), sides[SIDE_ASK][px]) for px in sorted(sides[SIDE_ASK])]
    return {"bids": bids, "asks": asks}
