"""Run a simulated market: MBO records in arrays, controls between them, and its true books at any time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from services.ingest.simulator import calendar, kernel
from services.ingest.simulator.calendar import Happening
from services.ingest.simulator.market import NS, STYLE_CME, MarketSpec, instruments
from services.ingest.simulator.state import (
    ASK,
    BID,
    NO_ORDER,
    PHASE_CLOSED,
    PHASE_HALT,
    PHASE_PREOPEN,
    PHASE_TRADING,
    make_state,
    orders_cap,
)
from shared.records import MBO, Rows

CHUNK_RECORDS = 65_536
_SEEDED_ORDERS = 60
_BURST_S = 0.4


class Simulation:
    """One market. `items` can be run through once; `books` is the truth at the point it has come to.

    `chunk_records`: most records in one array, beside those of the last event. It does not change the feed.
    """

    def __init__(self, spec: MarketSpec, chunk_records: int = CHUNK_RECORDS) -> None:
        self.spec, self._chunk = spec, chunk_records
        self.instruments = instruments(spec.instruments)
        self._state = make_state(spec)
        self._room = 4 * orders_cap(spec) + 256  # the largest event
        self._out = np.empty(chunk_records + self._room, MBO)
        self._n = 0
        self.records = 0  # given out so far
        for b in range(len(self._state.books)):
            if self._state.books[b]["style"] == STYLE_CME:
                kernel.special(
                    self._out, 0, self._state, b, kernel.SEED, min(_SEEDED_ORDERS, spec.orders // 3)
                )

    def _left(self) -> int:
        return 2**62 if self.spec.messages is None else self.spec.messages - self.records - self._n

    def _flush(self) -> Iterator[Rows]:
        if self._n:
            rows = self._out[: self._n]
            if self._n < self._chunk // 2:
                rows = rows.copy()
            else:
                self._out = np.empty(self._chunk + self._room, MBO)
            self.records += self._n
            self._n = 0
            yield rows

    def items(self) -> Iterator[Rows | dict[str, Any]]:
        """Records and controls until `messages` records were given out; without end if that is None."""
        for one in self.instruments:
            yield from one.controls()
        day = 0
        while self._left() > 0:
            for happening in calendar.plan_day(self.spec, day):
                if happening.kind != calendar.OPEN_DAY:  # nobody trades at night
                    yield from self._until(happening.ts)
                if self._left() <= self._room:
                    break  # near the exact end: single messages only
                yield from self._do(happening, day)
            else:
                day += 1
                continue
            yield from self._until(2**62)
        yield from self._flush()

    def _until(self, ts: int) -> Iterator[Rows]:
        """Trade until `ts` (ns), or until the last message."""
        state = self._state
        while int(state.heap_ts[0]) < ts and (left := self._left()) > 0:
            if left > self._room:
                out = self._out[: min(len(self._out), self._n + left)]
                self._n = kernel.run(out, self._n, self._room, ts, False, state)
                if self._n >= self._chunk or left <= self._room + self._n:
                    yield from self._flush()
            elif ts == 2**62:
                out = self._out[: min(len(self._out), self._n + left)]
                self._n = kernel.run(out, self._n, 1, ts, True, state)
                yield from self._flush()
            else:
                return

    def _books_of(self, instrument: int) -> list[int]:
        values = self._state.books["value"]
        return list(range(len(values))) if instrument < 0 else np.flatnonzero(values == instrument).tolist()

    def _status(self, instrument: int, action: str, reason: str, ts: int) -> Iterator[Rows | dict[str, Any]]:
        yield from self._flush()
        for index in range(len(self.instruments)) if instrument < 0 else (instrument,):
            ident = self.instruments[index].instrument_id
            yield {"type": "status", "instrument_id": ident, "action": action, "reason": reason, "ts": ts}

    def _do(self, what: Happening, day: int) -> Iterator[Rows | dict[str, Any]]:
        state, books = self._state, self._books_of(what.instrument)
        state.g[0]["now"] = max(int(state.g[0]["now"]), what.ts)
        if what.kind == calendar.BURST:
            state.values[what.instrument] += np.random.default_rng([self.spec.seed, what.ts]).normal(0.0, 8.0)
            state.books["burst_until"][books] = what.ts + int(min(_BURST_S, self.spec.day_s / 100) * NS)
            return
        if what.kind == calendar.OPEN_DAY:
            yield from self._open_day(what, day)
        elif what.kind == calendar.AUCTION:
            for b in books:
                if self._state.books[b]["phase"] == PHASE_PREOPEN and self._left() > self._room:
                    self._n = kernel.special(self._out, self._n, state, b, kernel.UNCROSS, 0)
                    state.books["phase"][b] = PHASE_TRADING
                    yield from self._spill()
            yield from self._status(what.instrument, "trading", "scheduled", what.ts)
        elif what.kind == calendar.HALT:
            state.books["phase"][books] = PHASE_HALT
            yield from self._status(what.instrument, "halt", "market_event", what.ts)
        elif what.kind == calendar.REOPEN:
            state.books["phase"][books] = PHASE_PREOPEN
            yield from self._status(what.instrument, "pre_open", "market_event", what.ts)
        elif what.kind == calendar.RECOVER:
            for b in books[:1]:
                self._n = kernel.special(self._out, self._n, state, b, kernel.SNAPSHOT, 0)
                yield from self._spill()
        elif what.kind == calendar.CLOSE:
            state.books["phase"] = PHASE_CLOSED
            for b in books:
                if self._left() > self._room:
                    self._n = kernel.special(self._out, self._n, state, b, kernel.EXPIRE, 0)
                    yield from self._spill()
            yield from self._status(-1, "close", "scheduled", what.ts)

    def _open_day(self, what: Happening, day: int) -> Iterator[Rows | dict[str, Any]]:
        """Futures come with a snapshot of what rested over night, shares with an empty book."""
        state = self._state
        date = np.datetime64(what.ts, "ns").astype("datetime64[D]")
        if day and date != np.datetime64(calendar.day_start(self.spec, day - 1), "ns").astype(
            "datetime64[D]"
        ):
            yield from self._flush()
            yield {"type": "day", "date": str(date)}
        self._restart(what.ts)
        for b in range(len(state.books)):
            if self._left() <= self._room:
                break
            if state.books[b]["style"] == STYLE_CME:
                self._n = kernel.special(self._out, self._n, state, b, kernel.SNAPSHOT, 0)
            else:
                self._n = kernel.special(self._out, self._n, state, b, kernel.CLEAR, 0)
            yield from self._spill()
        state.books["phase"] = PHASE_PREOPEN
        yield from self._status(-1, "pre_open", "scheduled", what.ts)

    def _restart(self, ts: int) -> None:
        """Forget what was due: every book's next event follows `ts` (ns), the start of a day."""
        state = self._state
        due = np.random.default_rng([self.spec.seed, ts]).random(len(state.books)) * state.books["mean_ns"]
        order = np.argsort(due, kind="stable")  # a sorted array is a heap
        state.heap_ts[:] = np.uint64(ts + 1) + due[order].astype(np.uint64)
        state.heap_book[:] = order

    def _spill(self) -> Iterator[Rows]:
        """Make room for the next large event."""
        if self._n >= self._chunk:
            yield from self._flush()

    def books(self) -> Iterator[dict[str, Any]]:
        """The true books, in the form of `mbo rebuild --every final`, by (publisher_id, instrument_id)."""
        state = self._state
        for b in sorted(
            range(len(state.books)), key=lambda b: (state.books[b]["publisher"], state.books[b]["instrument"])
        ):
            book = state.books[b]
            if not book["records"]:
                continue
            sides = [self._side(b, BID), self._side(b, ASK)]
            yield {
                "publisher_id": int(book["publisher"]),
                "instrument_id": int(book["instrument"]),
                "symbol": self.instruments[int(book["value"])].symbol,
                "orders": int(book["live"]),
                "bids": sides[0],
                "asks": sides[1],
                "crossed": int(book["bid"]) > int(book["ask"]),
                "anomalies": {},
                "records": int(book["records"]),
            }

    def _side(self, b: int, side: int) -> list[list[int]]:
        levels = self._state.levels[b, side]
        ticks = np.flatnonzero(levels["count"])
        if side == BID:
            ticks = ticks[::-1]
        book = self._state.books[b]
        prices = int(book["base_px"]) + ticks * int(book["tick_px"])
        return [
            [int(px), int(levels["size"][tick]), int(levels["count"][tick])]
            for px, tick in zip(prices, ticks, strict=True)
        ]

    def orders(self, b: int, side: int) -> Iterator[tuple[int, int, int]]:
        """(order_id, price, size) of one book's side, levels best first, each in queue order."""
        state = self._state
        ticks = np.flatnonzero(state.levels[b, side]["count"])
        for tick in ticks[::-1] if side == BID else ticks:
            o = int(state.levels[b, side, tick]["head"])
            while o != NO_ORDER:
                order = state.orders[o]
                px = int(state.books[b]["base_px"]) + int(tick) * int(state.books[b]["tick_px"])
                yield int(order["id"]), px, int(order["size"])
                o = int(order["next"])

    def truth_lines(self) -> Iterator[str]:
        for book in self.books():
            yield json.dumps(book, separators=(",", ":"))
