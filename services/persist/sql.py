"""Virtual tables `mbo` and `bbo` over the stored blocks, for `mbo sql`.

Conditions on symbol, instrument_id, run, ordinal, ts_event and ts_recv reach the blocks: only those that can match are
unpacked. A module of apsw (SQLite's own client library has no virtual tables from Python); it never shares a file with
Python's sqlite3 in one process, because two SQLite libraries drop each other's locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from services.persist import reader
from services.persist.store import UNDEF, store_path, update
from shared.blocks import KIND_BBO, KIND_MBO, Block
from shared.errors import StoreError, UsageError
from shared.records import Rows

Values = list[Any]
_TIME, _RANGE, _EQUAL = "time", "range", "equal"
# Names that a condition on can be used before a block is unpacked.
_PUSHED = {
    "run": _EQUAL,
    "symbol": _EQUAL,
    "instrument_id": _EQUAL,
    "ordinal": _RANGE,
    "ts_event": _RANGE,
    "ts_recv": _RANGE,
}
MBO_COLUMNS = {
    "run": "INTEGER", "symbol": "TEXT", "instrument_id": "INTEGER", "publisher_id": "INTEGER", "shard": "INTEGER",
    "ordinal": "INTEGER", "ts_event": "INTEGER", "ts_recv": "INTEGER", "action": "TEXT", "side": "TEXT",
    "price": "REAL", "size": "INTEGER", "order_id": "TEXT", "flags": "INTEGER", "channel_id": "INTEGER",
    "sequence": "INTEGER", "ts_in_delta": "INTEGER", "price_px": "INTEGER",
}  # fmt: skip
BBO_COLUMNS = {
    "run": "INTEGER", "symbol": "TEXT", "instrument_id": "INTEGER", "publisher_id": "INTEGER", "shard": "INTEGER",
    "ordinal": "INTEGER", "ts_event": "INTEGER", "ts_recv": "INTEGER", "bid": "REAL", "bid_sz": "INTEGER",
    "bid_ct": "INTEGER", "ask": "REAL", "ask_sz": "INTEGER", "ask_ct": "INTEGER", "flags": "INTEGER",
    "bid_px": "INTEGER",    "ask_px": "INTEGER",
}  # fmt: skip


class Part(NamedTuple):
    """A stretch of a shard to read: all instruments, or one."""

    run: int
    shard: int
    instrument_id: int | None
    first: int
    last: int


def connect(data: str | Path, feed: str) -> tuple[Any, type[Exception]]:
    """(a read-only apsw connection with the virtual tables, apsw's error class); UsageError without apsw."""
    try:
        import apsw
    except ImportError:
        raise UsageError("mbo sql needs apsw: pip install 'mbostream[persist]'") from None
    update(store_path(data, feed))
    path = str(store_path(data, feed))
    try:
        db, inner = (apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY) for _ in range(2))
        db.set_busy_timeout(5000)
        inner.set_busy_timeout(5000)
        module: Any = Module(inner, apsw)
        db.create_module("blocks", module, use_bestindex_object=False)
        for name in ("mbo", "bbo"):
            db.execute(f"CREATE VIRTUAL TABLE temp.{name} USING blocks({name})")
    except apsw.Error as error:
        raise StoreError(f"{path}: {error}") from error
    return db, apsw.Error


class Module:
    """What apsw asks for a table: its schema."""

    def __init__(self, db: Any, apsw: Any) -> None:
        self._db, self._apsw = db, apsw

    def Create(self, db: Any, module: str, database: str, table: str, kind: str) -> tuple[str, Table]:  # noqa: N802
        columns = MBO_COLUMNS if kind == "mbo" else BBO_COLUMNS
        listed = ", ".join(f"{name} {affinity}" for name, affinity in columns.items())
        return f"CREATE TABLE x({listed})", Table(self._db, self._apsw, kind, list(columns))

    Connect = Create


class Table:
    """Chooses which conditions a cursor gets."""

    def __init__(self, db: Any, apsw: Any, kind: str, columns: list[str]) -> None:
        self._db, self._apsw, self._kind, self.columns = db, apsw, kind, columns

    def BestIndex(self, constraints: Any, order: Any) -> Any:  # noqa: N802
        """Take every condition that can be pushed; SQLite checks all of them again."""
        apsw = self._apsw
        words = {
            apsw.SQLITE_INDEX_CONSTRAINT_EQ: "=", apsw.SQLITE_INDEX_CONSTRAINT_GE: ">=",
            apsw.SQLITE_INDEX_CONSTRAINT_GT: ">", apsw.SQLITE_INDEX_CONSTRAINT_LE: "<=",
            apsw.SQLITE_INDEX_CONSTRAINT_LT: "<",
        }  # fmt: skip
        used: list[Any] = []
        names: list[str] = []
        cost = 1e9
        for column, operator in constraints:
            name, word = self.columns[column], words.get(operator)
            kind = _PUSHED.get(name)
            if column < 0 or word is None or kind is None or (kind is _EQUAL and word != "="):
                used.append(None)
                continue
            used.append((len(names), False))
            names.append(f"{name}{word}")
            cost /= 50 if word == "=" else 4
        return used, 0, ",".join(names), False, cost

    def Open(self) -> Cursor:  # noqa: N802
        return Cursor(self._db, self._kind, self.columns)

    def Disconnect(self) -> None:  # noqa: N802
        """Nothing is held."""

    Destroy = Disconnect


class Cursor:
    """Walks the matching rows, block by block."""

    def __init__(self, db: Any, kind: str, columns: list[str]) -> None:
        self._db, self._kind, self._columns = db, kind, columns
        self._batches: Iterator[tuple[Part, Rows, Any]] = iter(())
        self._size = self._at = 0
        self._row = 0
        self._lists: dict[int, Values] = {}
        self._names: dict[int, dict[int, list[tuple[int, int, str]]]] = {}

    def Filter(self, number: int, names: str, values: Any) -> None:  # noqa: N802
        asked = dict(zip(names.split(",") if names else [], values, strict=True))
        self._row = 0
        self._batches = self._read(asked)
        self._next_batch()

    def _next_batch(self) -> None:
        self._at, self._size, self._lists = 0, 0, {}
        for part, rows, ordinals in self._batches:
            if len(rows):
                self._part, self._rows, self._ordinals, self._size = part, rows, ordinals, len(rows)
                return

    def _read(self, asked: Mapping[str, Any]) -> Iterator[tuple[Part, Rows, Any]]:
        low = {name: _bound(asked, name, ">=", ">", 1, -1) for name in ("ordinal", "ts_event", "ts_recv")}
        high = {
            name: _bound(asked, name, "<=", "<", -1, UNDEF) for name in ("ordinal", "ts_event", "ts_recv")
        }
        if any(bound is None for bound in (*low.values(), *high.values())):
            return  # compared with NULL: nothing is
        kind = KIND_MBO if self._kind == "mbo" else KIND_BBO
        for part in self._parts(asked, low["ordinal"] or 0, high["ordinal"] or 0):
            span = {"start": low["ts_recv"], "end": _beyond(high["ts_recv"])}
            if kind == KIND_MBO:
                span |= {"event_start": low["ts_event"], "event_end": _beyond(high["ts_event"])}
            if span == {
                "start": -1,
                "end": None,
                **({"event_start": -1, "event_end": None} if kind == KIND_MBO else {}),
            }:
                span = {}
            for blob in reader.blocks(
                self._db, part.run, part.shard, kind, first=max(1, part.first), last=part.last,
                instrument_id=part.instrument_id, **span,
            ):  # fmt: skip
                block = Block(blob)
                if kind == KIND_MBO:
                    ordinals, rows = block.mbo(part.instrument_id)
                else:
                    rows = block.bbo(part.instrument_id)
                    ordinals = rows["ordinal"]
                keep = (ordinals >= np.uint64(max(0, part.first))) & (ordinals <= np.uint64(part.last))
                for name in ("ts_event", "ts_recv"):
                    if low[name] != -1 or high[name] != UNDEF:
                        times = (
                            rows[name].view("<i8")
                            if rows[name].flags.c_contiguous
                            else rows[name].astype("<i8")
                        )
                        keep &= (times >= (low[name] or 0)) & (times <= (high[name] or 0))
                yield part, rows[keep], ordinals[keep]

    def _parts(self, asked: Mapping[str, Any], first: int, last: int) -> Iterator[Part]:
        where, given = ["1"], []
        for name in ("run", "symbol", "instrument_id"):
            if f"{name}=" in asked:
                where.append(f"{name}=?")
                given.append(asked[f"{name}="])
        if "symbol=" in asked:
            columns, table, order = (
                "instrument_id, first, coalesce(last, 9223372036854775807)",
                "symbol",
                "run, first",
            )
        elif "instrument_id=" in asked:
            columns, table, order = "instrument_id, 1, 9223372036854775807", "book", "run"
        else:
            columns, table, order = "NULL, 1, 9223372036854775807", "offset", "run, shard"
        sql = (
            f"SELECT DISTINCT run, shard, {columns} FROM {table} WHERE {' AND '.join(where)} ORDER BY {order}"  # noqa: S608
        )
        for run, shard, instrument, low, high in self._db.execute(sql, tuple(given)).fetchall():
            part = Part(run, shard, instrument, max(low, first), min(high, last))
            if part.first <= part.last:
                yield part

    def Eof(self) -> bool:  # noqa: N802
        return self._size == 0

    def Rowid(self) -> int:  # noqa: N802
        return self._row

    def Next(self) -> None:  # noqa: N802
        self._row += 1
        self._at += 1
        if self._at >= self._size:
            self._next_batch()

    def Close(self) -> None:  # noqa: N802
        self._batches = iter(())

    def Column(self, number: int) -> Any:  # noqa: N802
        if number < 0:
            return self._row
        values = self._lists.get(number)
        if values is None:
            values = self._lists[number] = self._column(self._columns[number])
        return values[self._at]

    def _column(self, name: str) -> Values:
        """A column of the batch as SQLite values; only those a statement asks for are made."""
        rows = self._rows
        if name in ("run", "shard"):
            return [getattr(self._part, name)] * self._size
        if name == "ordinal":
            return self._ordinals.tolist()  # type: ignore[no-any-return]
        if name == "symbol":
            return self._symbols()
        convert = _CONVERT.get(name)
        if convert is not None:
            return convert(rows)
        return rows[name].tolist()  # type: ignore[no-any-return]

    def _symbols(self) -> Values:
        names = self._names.get(self._part.run)
        if names is None:
            names = self._names[self._part.run] = {}
            for instrument, first, last, symbol in self._db.execute(
                "SELECT instrument_id, first, coalesce(last, ?), symbol FROM symbol WHERE run=?",
                (UNDEF, self._part.run),
            ).fetchall():
                names.setdefault(instrument, []).append((first, last, symbol))
        found = []
        for instrument, ordinal in zip(
            self._rows["instrument_id"].tolist(), self._ordinals.tolist(), strict=True
        ):
            spans = names.get(instrument, ())
            found.append(next((symbol for first, last, symbol in spans if first <= ordinal <= last), None))
        return found


def _times(name: str) -> Callable[[Rows], Values]:
    return lambda rows: [None if ts > UNDEF else ts for ts in rows[name].tolist()]


def _decimals(name: str) -> Callable[[Rows], Values]:
    return lambda rows: [None if px == UNDEF else px / 1e9 for px in rows[name].tolist()]


def _integers(name: str) -> Callable[[Rows], Values]:
    return lambda rows: [None if px == UNDEF else px for px in rows[name].tolist()]


def _letters(name: str) -> Callable[[Rows], Values]:
    return lambda rows: [chr(value) for value in rows[name].tolist()]


_CONVERT: dict[str, Callable[[Rows], Values]] = {
    "ts_event": _times("ts_event"), "ts_recv": _times("ts_recv"), "action": _letters("action"),
    "side": _letters("side"), "price": _decimals("price"), "price_px": _integers("price"),
    "bid": _decimals("bid_px"), "ask": _decimals("ask_px"),
    "bid_px": _integers("bid_px"), "ask_px": _integers("ask_px"), "bid_sz": _times("bid_sz"),
    "ask_sz": _times("ask_sz"), "order_id": lambda rows: [str(value) for value in rows["order_id"].tolist()],
}  # fmt: skip


def _bound(
    asked: Mapping[str, Any], name: str, closed: str, opened: str, step: int, default: int
) -> int | None:
    """The tightest integer bound of a column from the conditions on it; None if nothing can fulfil them."""
    found = [default]
    for word, extra in ((closed, 0), (opened, step), ("=", 0)):
        if f"{name}{word}" not in asked:
            continue
        value = asked[f"{name}{word}"]
        if value is None:
            return None
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)  # as SQLite compares a number with a text that is one
        if not isinstance(value, int | float):
            continue  # SQLite compares
        rounded = int(value // 1) if step < 0 else int(-(-value // 1))
        if isinstance(value, float) and rounded != value:
            extra = 0  # the rounding has passed the bound already
        found.append(rounded + extra)
    return max(found) if step > 0 else min(found)


def _beyond(high: int | None) -> int | None:
    return None if high is None or high >= UNDEF else high + 1
