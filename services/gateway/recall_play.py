"""A replay: recorded entries through the engine and the same topics as live, paced by market time (ts_recv)."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from services.gateway import blocks, vector
from services.gateway.channels import KINDS, ShardTopics
from services.gateway.close_codes import REPLAYED
from services.gateway.feedstate import FeedState
from services.gateway.instruments import Feed, Instrument
from services.gateway.items import Item, Loaded
from services.gateway.orders import Applied
from services.gateway.recall_rows import Asked
from services.gateway.subscription import Subscription
from services.gateway.topic import Topic
from services.gateway.vector import Position, ShardKey
from shared.history_client import History, HistoryError, SessionInfo, Span, replay
from shared.orderbook.shard import ShardState
from shared.units import F_LAST, UNDEF_TS
from shared.wire.codec import InEntry, OutEntry

QUANTUM_NS = 5_000_000  # shards interleave, and a paced replay is written, as finely as that
ALONE_NS = 1_000_000_000  # of one shard at full speed: there is nothing to interleave with
WRITE_BYTES = 32_768
MAX_SLEEP_S = 0.5
Step = tuple[int, ShardKey, InEntry | None]  # None: a symbol goes on with another id, of that shard


class _Plan(NamedTuple):
    """Instruments of one recorded run."""

    history: History
    info: SessionInfo
    instruments: list[Instrument]
    others: list[tuple[Span, Instrument]]  # ids that their symbols have at other times


class Player:
    """Views of the wanted instruments over the states of their shards."""

    def __init__(self, asked: Asked) -> None:
        job = asked.job
        self.job = job
        wanted = Subscription(
            ("replay",),
            tuple(job["channels"]),
            job["depth"],
            job["interval_ms"],
            job["publisher"],
            job["columns"],
        )
        self._is_lossless = all(KINDS[channel].lossless for channel in job["channels"])
        self.state = FeedState()
        self.shards: dict[ShardKey, ShardState] = {}
        self.topics: dict[ShardKey, ShardTopics] = {}
        self.order: list[Topic] = []
        self.recorded: dict[str, int] = {}  # by view: the shard's last ordinal that was stored when we began
        self._fresh: list[Topic] = []  # of an id that a symbol has gone on with: to be announced
        self._due: dict[Topic, int] = {}
        self._waiting: set[Topic] = set()
        self.at: dict[ShardKey, Position] = {}  # what has been applied: the id of the next write
        at = vector.said(job["last_event_id"])
        plans = _plans(asked, {key.feed: position.session for key, position in at.items()})
        self.resumed = all(
            _reached(plan.info, at.get(i.key), i.shard) for plan in plans for i in plan.instruments
        )
        first = min(plan.info.first_ts for plan in plans)
        self.begins = 0 if self.resumed else max(job["start"] or 0, first)
        if not self.resumed:
            at = {}
        later = [(plan, *change) for plan in plans for change in self._changes(plan, at)]
        keys = {i.key for plan in plans for i in plan.instruments} | {i.key for _, _, i in later}
        self._quantum_ns = _quantum(job, alone=len(keys) == 1)
        played = [self._open(plan, {i.shard for i in plan.instruments}, job["start"], at) for plan in plans]
        for plan in plans:
            self._add_views(plan, plan.instruments, wanted)
        others = [self._go_on(plan, ts, instrument, wanted) for plan, ts, instrument in later]
        self.steps: Iterator[Step] = heapq.merge(*others, *played, key=lambda step: step[0])

    def _changes(self, plan: _Plan, at: dict[ShardKey, Position]) -> Iterator[tuple[int, Instrument]]:
        """(ts_recv of its first record, instrument) of ids that symbols go on with; those before `at` are taken now."""
        if not plan.others:
            return
        info = plan.info
        start = plan.history.position(info.feed, info.run, (self.job["start"] or info.first_ts) - 1)
        for span, instrument in plan.others:
            first = next(plan.history.records(span, end=self.job["end"]), None)
            if first is None or (ordinal := int(first.ordinals[0])) <= start[span.shard]:
                continue
            if instrument.key in at and ordinal <= at[instrument.key].ordinal:
                plan.instruments.append(instrument)
            else:
                yield int(first.rows["ts_recv"][0]), instrument

    def _go_on(self, plan: _Plan, ts: int, instrument: Instrument, wanted: Subscription) -> Iterator[Step]:
        """What follows of an id that a symbol goes on with at `ts`; its shard is read from then on only."""
        ts -= ts % self._quantum_ns  # where the step that holds its first record may begin
        yield ts, instrument.key, None
        steps = iter(()) if instrument.key in self.shards else self._open(plan, {instrument.shard}, ts, {})
        self._fresh += self._add_views(plan, [instrument], wanted)
        yield from steps

    def _open(
        self, plan: _Plan, shards: set[int], start: int | None, at: dict[ShardKey, Position]
    ) -> Iterator[Step]:
        """Take shards as they stood at the start, or at the position to resume; what follows."""
        info, job = plan.info, self.job
        self.state.directory.feeds[info.feed] = Feed(
            info.feed, info.dataset, info.shards, info.session, info.state, info.policy
        )
        played = replay(
            plan.history, info.feed, info.run, sorted(shards), start=start, end=job["end"],
            quantum_ns=self._quantum_ns,
            after={n: at[ShardKey(info.feed, n)].ordinal for n in shards} if at else None,
        )  # fmt: skip
        for shard, state in played.states.items():
            key = ShardKey(info.feed, shard)
            state.session = info.session  # one that is empty does not know it yet
            self.at[key] = Position(info.session, state.ordinal)
            self.shards[key] = state
            self.state.take([Item("load", key, info.session, Loaded(state, info.policy))], {}, set(), 0.0)
            self.state.books[key].orders = state
        return _keyed(played, info.feed)

    def _add_views(self, plan: _Plan, instruments: list[Instrument], wanted: Subscription) -> list[Topic]:
        """The views of instruments that there are not yet."""
        fresh = []
        for instrument in instruments:
            topics = self.topics.setdefault(instrument.key, ShardTopics())
            for key in wanted.keys(instrument):
                topic = KINDS[key.channel](
                    key, self.state.books[instrument.key], instrument.symbol, plan.info.dataset
                )
                if all(topic.view != other.view for other in topics.of(instrument.instrument_id)):
                    topics.add(topic)
                    self.recorded[topic.view] = plan.info.offsets[instrument.shard]
                    fresh.append(topic)
        self.order += fresh
        return fresh

    def hello(self, ts: int) -> bytes:
        """hello, the rebuilt snapshots of the start (of a resume: where one is not exact without), and the id."""
        return self._announced(self.order, ts, self.resumed) + self.id()

    def appeared(self, ts: int) -> bytes:
        """hello and snapshots of ids that symbols have gone on with since this was asked last."""
        fresh, self._fresh = self._fresh, []
        return self._announced(fresh, ts, resumed=False) if fresh else b""

    def _announced(self, topics: list[Topic], ts: int, resumed: bool) -> bytes:
        exact = {topic for topic in topics if resumed and topic.key.channel in ("trades", "mbo")}
        for topic in topics:
            topic.books.stamps = (ts, ts, ts)
        views = [topic.announce(topic in exact, topic.q) for topic in topics]
        heartbeat_s, columns = self.job["heartbeat_s"], self.job["columns"]
        hello = blocks.hello(
            "replay", views, heartbeat_s=heartbeat_s, columns=columns, expires_ns=None, now_ns=time.time_ns()
        )
        return b"".join((hello, *(topic.start(ts) for topic in topics if topic not in exact)))

    def id(self) -> bytes:
        """The id-only block that closes a write."""
        return vector.id_block(self.at)

    def apply(self, ts: int, key: ShardKey, entry: InEntry) -> bytes:
        """The events of one piece of one shard."""
        state, topics = self.shards[key], self.topics[key]
        wants_orders = "mbo" in self.job["channels"]
        batch = state.apply(entry, effects=wants_orders)
        out = OutEntry(entry.n, entry.first, ts, ts, ts, state.stale, entry.control, batch)
        dirty: set[Topic] = set()
        books = self.state.books[key]
        session = books.session
        self.at[key] = Position(session, entry.last)
        self.state.take([Item("out", key, session, out)], {key: topics}, dirty, 0.0)
        books.orders = state
        if wants_orders and batch.effects is not None and len(batch.effects):
            assert batch.effect_records is not None
            self.state.mbo(
                [Applied(batch.effect_records[batch.effects["row"]], batch.effects)], topics, dirty
            )
        return b"".join([self._emit(topic, ts) for topic in self.order if topic in dirty])

    def _emit(self, topic: Topic, ts: int) -> bytes:
        interval = topic.key.interval_ms * 1_000_000
        if interval and ts < self._due.get(topic, 0):
            self._waiting.add(topic)
            return b""
        self._waiting.discard(topic)
        if interval:
            self._due[topic] = (ts // interval + 1) * interval
        return topic.emit(ts)

    def overdue(self, ts: int | None) -> bytes:
        """What waits and whose interval ended before `ts` (None: all), as it stood: no delta spans two intervals."""
        late = [t for t in self.order if t in self._waiting and (ts is None or ts >= self._due[t])]
        self._waiting.difference_update(late)
        return b"".join([topic.emit(self._due[topic] - 1) for topic in late])

    def pieces(self, key: ShardKey, entry: InEntry) -> Iterator[InEntry]:
        """The entry cut behind every event end of a wanted instrument, so that one event is one delta.

        Where every record is said (`lossless`), or an interval conflates, whole: a cut is a turn of the engine.
        """
        if entry.records is None or self.job["interval_ms"] or self._is_lossless:
            yield entry
            return
        last = (entry.records["flags"] & F_LAST) != 0
        wanted = list({topic.key.instrument_id for topic in self.topics[key]})
        numbers = entry.records["instrument_id"]
        mine = numbers == wanted[0] if len(wanted) == 1 else np.isin(numbers, np.array(wanted, np.uint32))
        ends = np.flatnonzero(last & mine) + 1
        start = 0
        for stop in (*ends.tolist(), entry.n):
            if stop > start:
                yield entry._replace(
                    n=stop - start, first=entry.first + start, records=entry.records[start:stop]
                )
                start = stop


def _plans(asked: Asked, sessions: dict[str, int]) -> list[_Plan]:
    """What is to be played, by feed and run; of a feed in `sessions` that session if none is asked for."""
    job = asked.job
    plans: dict[tuple[str, int], _Plan] = {}
    for symbol in job["symbols"]:
        history, feed, name = asked.feed_of(symbol)
        info = history.pick(feed, job.get("session") or sessions.get(feed), job.get("start"))
        if not info.records:
            raise HistoryError(f"nothing of feed {feed} is recorded yet")
        now = history.span_at(feed, name, info.run, job.get("start") or info.first_ts)
        known = {i.instrument_id: tuple(i.publishers) for i in history.instruments(feed, info.run)}
        plan = plans.setdefault((feed, info.run), _Plan(history, info, [], []))
        plan.instruments.append(_instrument(info, now, known))
        plan.others.extend(
            (span, _instrument(info, span, known))
            for span in history.spans(feed, name, run=info.run)
            if span.instrument_id != now.instrument_id
        )
    return list(plans.values())


def _instrument(info: SessionInfo, span: Span, publishers: dict[int, tuple[int, ...]]) -> Instrument:
    number, symbol = span.instrument_id, span.symbol or str(span.instrument_id)
    return Instrument(info.feed, info.dataset, span.shard, number, symbol, publishers.get(number, ()))


def _reached(info: SessionInfo, at: Position | None, shard: int) -> bool:
    """Whether a position is one of this recording."""
    return at is not None and at.session == info.session and at.ordinal <= info.offsets[shard]


def _quantum(job: dict[str, Any], alone: bool) -> int:
    """Market time of one piece, ns: what is conflated is not read more finely than it is shown."""
    interval_ms: int = job["interval_ms"]
    if interval_ms:
        return min(max(QUANTUM_NS, interval_ms * 1_000_000), ALONE_NS)
    return ALONE_NS if alone and not job["speed"] else QUANTUM_NS


def _keyed(steps: Any, feed: str) -> Iterator[Step]:
    for ts, shard, entry in steps:
        yield ts, ShardKey(feed, shard), entry


def play(asked: Asked) -> Iterator[bytes]:
    """SSE bytes; everything that can be wrong is found before the first part."""
    player = Player(asked)
    return _stream(player, asked.job["speed"], asked.job["heartbeat_s"], asked.job["start"] or 0)


def _stream(player: Player, speed: float, heartbeat_s: float, start: int) -> Iterator[bytes]:
    yield player.hello(start)
    held: list[bytes] = []
    size = 0
    clock: tuple[float, int] | None = None  # wall time of a market time
    last_ts = start
    for ts, key, entry in player.steps:
        # controls before the first record have no time
        if speed and (clock or entry is None or entry.records is not None):
            clock = clock or (time.monotonic(), player.begins or ts)
            due = clock[0] + (ts - clock[1]) / 1e9 / speed
            if due > time.monotonic() and held:
                yield b"".join((*held, player.id()))
                held, size = [], 0
            yield from _wait(due, heartbeat_s)
        if entry is None:
            continue
        last_ts = max(last_ts, ts)
        if appeared := player.appeared(last_ts):
            held.append(appeared)
            size += len(appeared)
        if waited := player.overdue(ts):
            held.append(waited)
            size += len(waited)
        for piece in player.pieces(key, entry):
            at = last_ts
            if piece.records is not None and (recv := int(piece.records["ts_recv"][-1])) != UNDEF_TS:
                at = max(at, recv)
            blob = player.apply(at, key, piece)
            if blob:
                held.append(blob)
                size += len(blob)
        if size >= WRITE_BYTES:
            yield b"".join((*held, player.id()))
            held, size = [], 0
    held += [player.appeared(last_ts), player.overdue(None), player.id()]
    yield b"".join((*held, blocks.bye(REPLAYED, recorded=player.recorded)))


def _wait(due: float, heartbeat_s: float) -> Iterator[bytes]:
    beat = time.monotonic() + heartbeat_s
    while (left := due - time.monotonic()) > 0:
        time.sleep(min(left, MAX_SLEEP_S))
        if time.monotonic() >= beat:
            beat += heartbeat_s
            yield blocks.heartbeat((), {}, 0.0)
