"""What `mbo bench persist` is compared with: a row a record, with the indexes that the same questions need."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

from shared.records import Rows

COLUMNS = (
    "ts_recv", "ts_event", "instrument_id", "publisher_id", "order_id", "price", "size", "action", "side", "flags",
    "channel_id", "sequence", "ts_in_delta",
)  # fmt: skip
COMMIT_ROWS = 10_000


def records_per_s(rows: Rows) -> float:
    """Records a second into SQLite as durably as persist stores them: WAL, synchronous=FULL, three indexes."""
    with tempfile.TemporaryDirectory(prefix="mbo-bench-") as folder:
        db = sqlite3.connect(Path(folder) / "rows.sqlite", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"CREATE TABLE mbo ({', '.join(f'{name} INTEGER' for name in COLUMNS)})")
        for index in ("instrument_id, ts_recv", "ts_event", "order_id"):
            db.execute(f"CREATE INDEX by_{index.split(',')[0]} ON mbo ({index})")
        insert = f"INSERT INTO mbo VALUES ({','.join('?' * len(COLUMNS))})"  # noqa: S608 - our own names
        begun = time.perf_counter()
        for at in range(0, len(rows), COMMIT_ROWS):
            part = rows[at : at + COMMIT_ROWS]
            columns = [part[name].astype("i8").tolist() for name in COLUMNS]
            db.execute("BEGIN")
            db.executemany(insert, zip(*columns, strict=True))
            db.execute("COMMIT")
        seconds = time.perf_counter() - begun
        db.close()
    return len(rows) / seconds
