"""What is stored as plain rows of a shard's run: trades and bars, totals and activity, control entries and what they
name. Everything happens in the caller's transaction; if that fails, the ledger is thrown away with its recorder."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.persist import derive
from services.persist.store import SERIES_SHIFT, UNDEF
from shared.records import Rows

_TRADE_COLUMNS = ["ts_event", "ts_recv", "price", "size", "sequence", "publisher_id", "side", "flags"]
_BAR_KEY = ["instrument_id", "interval_s", "ts", "publisher_id"]
_BAR_COLUMNS = ["open", "high", "low", "close", "volume", "trades"]
_BAR_GOES_ON = (
    " ON CONFLICT DO UPDATE SET high=max(high,excluded.high), low=min(low,excluded.low), close=excluded.close,"
    " volume=volume+excluded.volume, trades=trades+excluded.trades"
)
_AT_ONCE = 20  # rows of one INSERT: a fifth less time than one by one
_I64_MAX = np.uint64(UNDEF)


class Ledger:
    """Writes the rows of one shard of a run."""

    def __init__(self, run: int, shard: int) -> None:
        self.run, self.shard = run, shard
        self.symbols: dict[int, str] = {}  # the newest of each instrument
        self._since: dict[int, list[int]] = {}  # ordinals from which each instrument had a symbol
        self._series: dict[int, int] = {}  # instrument → the upper part of its trades' keys

    def trades(self, db: sqlite3.Connection, trades: Rows) -> None:
        """TRADE rows, and the bars they make or extend."""
        instruments, which = np.unique(trades["instrument_id"], return_inverse=True)
        series = np.array([self._number(db, instrument) for instrument in instruments.tolist()], np.int64)
        ordinals = trades["ordinal"].view(np.int64)
        ends = trades["end"].view(np.int64) - ordinals
        keys = series[which] << SERIES_SHIFT | ordinals
        rows = _matrix([keys, ends, *(trades[name] for name in _TRADE_COLUMNS)])
        rows = rows[np.argsort(keys)]  # an instrument's trades go to one place of the table
        _insert(db, "trade", rows)
        since = self._named_since(instruments, which, ordinals)
        for interval in derive.INTERVALS_S:
            bars, named = derive.bars(trades, since, interval)
            key, rest = ([bars[name] for name in names] for names in (_BAR_KEY, _BAR_COLUMNS))
            rows = _matrix([np.full(len(bars), self.run), *key, named, *rest])
            rows = rows[np.lexsort((bars["publisher_id"], bars["ts"], bars["instrument_id"]))]
            _insert(db, "bar", rows, _BAR_GOES_ON)

    def load(self, db: sqlite3.Connection, symbols: Mapping[int, str]) -> None:
        """Go on where the file stands: the newest symbol of each instrument, and since when it had which."""
        self.symbols = dict(symbols)
        for instrument, first in db.execute(
            "SELECT instrument_id, first FROM symbol WHERE run=? AND shard=? ORDER BY first",
            (self.run, self.shard),
        ):
            self._since.setdefault(instrument, []).append(first)

    def _named_since(
        self, instruments: NDArray[Any], which: NDArray[Any], ordinals: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """For each trade, the ordinal at which its instrument got the symbol it then had; 1 if it had none."""
        known = [self._since.get(instrument, [1]) for instrument in instruments.tolist()]
        since: NDArray[np.int64] = np.array([firsts[-1] for firsts in known], np.int64)[which]
        for trade in np.flatnonzero(ordinals < since).tolist():  # renamed behind it, in the same commit
            firsts = known[which[trade]]
            at = bisect_right(firsts, int(ordinals[trade]))
            since[trade] = firsts[at - 1] if at else 1
        return since

    def _number(self, db: sqlite3.Connection, instrument: int) -> int:
        found = self._series.get(instrument)
        if found is None:
            key = (self.run, instrument)
            db.execute("INSERT OR IGNORE INTO series (run, instrument_id) VALUES (?,?)", key)
            found = db.execute("SELECT series FROM series WHERE run=? AND instrument_id=?", key).fetchone()[0]
            self._series[instrument] = found
        return int(found)

    def tally(self, db: sqlite3.Connection, tally: derive.Tally) -> None:
        """Totals of books, and activity since the last time."""
        run, shard = self.run, self.shard
        db.executemany(
            "INSERT INTO book VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET records=excluded.records,"
            " trades=excluded.trades, first_ts=excluded.first_ts, last_ts=excluded.last_ts",
            [(run, instrument, publisher, shard, *sums) for instrument, publisher, *sums in tally.dirty()],
        )
        if tally.minutes:
            counts = np.stack(list(tally.minutes.values()))
            seconds = counts.astype("<u4").reshape(len(counts), -1)
            db.executemany(
                "INSERT INTO activity VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE SET records=records+excluded.records,"
                " trades=trades+excluded.trades, seconds=with_seconds(seconds, excluded.seconds)",
                [
                    (run, minute, shard, *sums, row.tobytes())
                    for minute, sums, row in zip(
                        tally.minutes, counts.sum(axis=2).tolist(), seconds, strict=True
                    )
                ],
            )
            tally.minutes.clear()

    def control(self, db: sqlite3.Connection, ordinal: int, n: int, control: Mapping[str, Any]) -> None:
        run, shard, kind = self.run, self.shard, str(control["type"])
        instrument = control.get("instrument_id")
        db.execute(
            "INSERT INTO control VALUES (?,?,?,?,?,?,?)",
            (run, shard, ordinal, n, kind, instrument, json.dumps(control, separators=(",", ":"))),
        )
        if kind == "mapping" and instrument is not None:
            symbol = str(control["symbol"])
            if self.symbols.get(instrument) == symbol:
                return
            self.symbols[instrument] = symbol
            self._since.setdefault(instrument, []).append(ordinal)
            db.execute(
                "UPDATE symbol SET last=? WHERE run=? AND instrument_id=? AND last IS NULL",
                (ordinal - 1, run, instrument),
            )
            db.execute(
                "INSERT INTO symbol VALUES (?,?,?,?,NULL,?)", (run, shard, instrument, ordinal, symbol)
            )
            db.execute(
                "INSERT INTO instrument (run, instrument_id, shard, symbol) VALUES (?,?,?,?)"
                " ON CONFLICT DO UPDATE SET symbol=excluded.symbol",
                (run, instrument, shard, symbol),
            )
        elif kind == "definition" and instrument is not None:
            db.execute(
                "INSERT INTO instrument VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET"
                " symbol=coalesce(excluded.symbol, symbol), tick_px=excluded.tick_px, multiplier=excluded.multiplier,"
                " currency=excluded.currency, expiration=excluded.expiration, display_factor=excluded.display_factor",
                (run, instrument, shard, control.get("symbol"), *map(_small, (control.get(name) for name in (
                    "tick_px", "multiplier", "currency", "expiration", "display_factor")))),
            )  # fmt: skip
        elif kind == "end":
            db.execute("UPDATE run SET ended=ended+1 WHERE run=?", (run,))


def _insert(db: sqlite3.Connection, table: str, rows: NDArray[np.int64], otherwise: str = "") -> None:
    """Rows into a table, _AT_ONCE at a time."""
    width = rows.shape[1]
    one, whole = f"({','.join('?' * width)})", len(rows) // _AT_ONCE
    for part, at_once in (
        (rows[: whole * _AT_ONCE].reshape(whole, _AT_ONCE * width), _AT_ONCE),
        (rows[whole * _AT_ONCE :], 1),
    ):
        db.executemany(f"INSERT INTO {table} VALUES {','.join([one] * at_once)}{otherwise}", part.tolist())  # noqa: S608


def _matrix(columns: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Columns side by side as SQLite takes them: (rows, columns), u64 beyond int64 cut to its greatest value."""
    out = np.empty((len(columns[0]), len(columns)), np.int64)
    for at, column in enumerate(columns):
        out[:, at] = np.minimum(column, _I64_MAX) if column.dtype == np.uint64 else column
    return out


def _small(value: Any) -> Any:
    """A definition's value as SQLite takes it: integers beyond int64 are undefined values."""
    if isinstance(value, int):
        return value if -UNDEF <= value <= UNDEF else UNDEF
    return value if value is None or isinstance(value, str) else str(value)
