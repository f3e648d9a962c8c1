"""Put control entries between records: symbol mappings, definitions, statuses, days.

Cut to a window and symbols.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.ingest.sources.sequence import Control
from services.ingest.sources.whole import Book, Waiting
from shared.dbn import InstrumentSymbol, Message
from shared.records import Rows, recv_times

DAY_NS = 86_400_000_000_000


def mapping(one: InstrumentSymbol) -> Control:
    return {
        "type": "mapping",
        "instrument_id": one.instrument_id,
        "symbol": one.symbol,
        "start": one.start_ns,
        "end": one.end_ns,
    }


def gap(
    reason: str,
    from_ns: int | None,
    to_ns: int | None,
    instrument_id: int = 0,
    *,
    has_snapshot: bool = True,
    books: Iterable[Book] | None = None,
) -> Message:
    """Records are missing: of one instrument, or (0) of all.

    `has_snapshot`: one was asked for, and a `recovered` will say when it is there. If not, the books are whole when
    each has begun anew: `books`, or all there are names of.
    """
    fields: dict[str, Any] = {"reason": reason, "from": from_ns, "to": to_ns}
    if not has_snapshot:
        fields["books"] = None if books is None else list(books)
    return Message("gap", instrument_id, to_ns or 0, fields)


def recovered(ts_ns: int) -> Message:
    """The books are whole again: a snapshot of all of them has come."""
    return Message("recovered", 0, ts_ns, {})


def day(ts_ns: int) -> Control:
    """The control of the UTC day that `ts_ns` lies in."""
    date = dt.datetime.fromtimestamp(ts_ns // 1_000_000_000, dt.UTC).date()
    return {"type": "day", "date": date.isoformat()}


def plan(instruments: Iterable[InstrumentSymbol]) -> tuple[list[InstrumentSymbol], list[InstrumentSymbol]]:
    """(the first name of every id, by id; later changes of name, by time). Repetitions are dropped."""
    first: dict[int, InstrumentSymbol] = {}
    now: dict[int, str] = {}
    changes: list[InstrumentSymbol] = []
    for one in sorted(instruments, key=lambda one: (one.start_ns or 0, one.instrument_id)):
        if now.get(one.instrument_id) == one.symbol:
            continue
        if one.instrument_id in now:
            changes.append(one)
        else:
            first[one.instrument_id] = one
        now[one.instrument_id] = one.symbol
    return [first[key] for key in sorted(first)], changes


@dataclass
class Annotator:
    """`symbols`: names or decimal instrument ids to keep, none for all.

    Window by ts_recv, `end` exclusive, ns.
    """

    instruments: list[InstrumentSymbol]
    symbols: frozenset[str] = frozenset()
    start: int | None = None
    end: int | None = None
    _names: dict[int, str] = field(default_factory=dict)
    _definitions: dict[int, dict[str, Any]] = field(default_factory=dict)
    _keep: set[int] = field(default_factory=set)
    _midnight: int | None = None  # the next one, ns
    _is_stale: bool = False  # a gap was given out and no recovery since
    _waiting: Waiting | None = None  # for books to begin anew
    _ends: dict[int, int] = field(default_factory=dict)  # of instruments' names, ns

    def __post_init__(self) -> None:
        self._keep = {int(text) for text in self.symbols if text.isdigit() and int(text) < 2**32}
        self._given_ids = frozenset(self._keep)

    def _map(self, control: Control) -> Iterator[Control]:
        ident, symbol = control["instrument_id"], control["symbol"]
        if control.get("end"):
            self._ends[ident] = max(self._ends.get(ident, 0), control["end"])
        if self._names.get(ident) == symbol:
            return
        was_kept = self._is_kept(ident)
        self._names[ident] = symbol
        if self.symbols:
            if symbol in self.symbols or ident in self._given_ids:
                self._keep.add(ident)
            else:
                self._keep.discard(ident)
        if self._waiting is not None and self._is_kept(ident):
            self._waiting.expect(ident)
        if was_kept or self._is_kept(ident):
            yield control

    def _is_kept(self, instrument_id: int) -> bool:
        return not self.symbols or instrument_id in self._keep

    def _message(self, message: Message) -> Iterator[Control]:
        if message.kind == "mapping":
            yield from self._map(message.control())
        elif message.kind == "gap":
            control = message.control()
            if not message.instrument_id:
                del control["instrument_id"]
            if "books" in control:
                self._wait(control.pop("books"), message.instrument_id)
            else:
                self._waiting = None  # the snapshot is of all
            self._is_stale = True
            yield control
        elif message.kind == "recovered":
            yield from self._recovered()
        elif message.kind in ("definition", "status") and self._is_kept(message.instrument_id):
            if message.kind == "definition":
                if self._definitions.get(message.instrument_id) == message.fields:
                    return
                self._definitions[message.instrument_id] = message.fields
            yield message.control()

    def _recovered(self) -> Iterator[Control]:
        self._waiting = None
        if self._is_stale:
            self._is_stale = False
            yield {"type": "recovered"}

    def _wait(self, books: list[Book] | None, instrument_id: int) -> None:
        """A gap without a snapshot to come."""
        if instrument_id:
            more = Waiting(instruments=(instrument_id,))
        elif books is None:
            more = Waiting()
            for ident in filter(self._is_kept, self._names):
                more.expect(ident)
        else:
            more = Waiting(book for book in books if self._is_kept(book[1]))
        if self._waiting is None:
            self._waiting = more
        else:
            self._waiting.add(more)

    def _midnight_has_passed(self, at_ns: int) -> None:
        if self._waiting is not None:
            self._waiting.nobody_else()
            for ident, end in self._ends.items():
                if end <= at_ns:
                    self._waiting.forget(ident)

    def _filter(self, records: Rows) -> Iterator[Rows | Control]:
        if self.symbols:
            records = records[np.isin(records["instrument_id"], list(self._keep))]
        if not len(records):
            return
        if self._waiting is not None and (at := self._waiting.take(records)) >= 0:
            if at:
                yield records[:at]
            yield from self._recovered()
            records = records[at:]
        yield records

    def facts(self) -> dict[str, Any]:
        """Its state between two items, JSON-able: what `restore` takes."""
        return {
            "midnight": self._midnight,
            "is_stale": self._is_stale,
            "waiting": self._waiting and self._waiting.facts(),
            "ends": {str(key): end for key, end in self._ends.items()},
            "names": {str(key): name for key, name in self._names.items()},
            "definitions": {str(key): fields for key, fields in self._definitions.items()},
        }

    def restore(self, facts: dict[str, Any]) -> None:
        self._midnight, self._is_stale = facts["midnight"], facts["is_stale"]
        self._waiting = Waiting.restored(facts["waiting"]) if facts.get("waiting") else None
        self._ends = {int(key): end for key, end in facts.get("ends", {}).items()}
        self._names = {int(key): name for key, name in facts["names"].items()}
        self._definitions = {int(key): fields for key, fields in facts["definitions"].items()}

    def new_pass(self) -> None:
        """The next items begin on another day than the last ones ended."""
        self._midnight = None

    def items(self, merged: Iterable[Rows | Message | None]) -> Iterator[Rows | Control | None]:
        """The merged input with controls in their places. Ends at the first record at or after `end`."""
        first, changes = plan(self.instruments)
        for one in first:
            yield from self._map(mapping(one))
        changes.reverse()
        for item in merged:
            if item is None:
                yield None
                continue
            if isinstance(item, Message):
                yield from self._message(item)
                continue
            records, is_last = self._window(item)
            while len(records):
                stamps = recv_times(records)
                top = int(stamps.max())
                if self._midnight is None and top:
                    self._midnight = (int(stamps[stamps > 0][0]) // DAY_NS + 1) * DAY_NS
                change = changes[-1].start_ns or 0 if changes else None
                edge = min(t for t in (self._midnight, change, 2**64) if t is not None)
                if top < edge:
                    yield from self._filter(records)
                    break
                n = int((stamps >= edge).argmax())
                yield from self._filter(records[:n])
                records = records[n:]
                if edge == self._midnight:
                    self._midnight = (int(stamps[n]) // DAY_NS + 1) * DAY_NS
                    yield day(self._midnight - 1)
                    self._midnight_has_passed(self._midnight - DAY_NS)
                while changes and (changes[-1].start_ns or 0) <= edge:
                    yield from self._map(mapping(changes.pop()))
            if is_last:
                return

    def _window(self, records: Rows) -> tuple[Rows, bool]:
        """The part inside the window, and whether it ends here."""
        if self.start is not None:
            records = records[recv_times(records) >= self.start]
        if self.end is not None and len(records):
            late = recv_times(records) >= self.end
            if late.any():
                return records[: int(late.argmax())], True
        return records, False
