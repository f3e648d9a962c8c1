"""Removing what is too old or too much, a little at a time, so that what is left still works.

What is left of a shard begins right behind one of its images, so every instant that is still kept can be rebuilt. Whole
runs go once every shard of a newer run has taken over and all of theirs is past the limit.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from services.persist.derive import MINUTE_NS
from services.persist.store import SERIES_SHIFT, store_error
from shared import logs

log = logs.get("persist")

EVERY_S = 30.0
DAY_NS = 86_400 * 1_000_000_000
STEP_PAGES = 2_000  # given back to the file system in one go


class Retention:
    """Applies `keep_days` (of market time) and `keep_bytes` (the file less free pages).

    Days count back from the newest time from which on all records of some block are: one record whose clock was wrong
    moves no limit. The market's time, not ours: a simulated one runs ahead, a replayed one is long ago.
    """

    def __init__(self, path: Path, *, keep_days: float, keep_bytes: int, every_s: float = EVERY_S) -> None:
        self._path, self._days, self._bytes, self._every_s = path, keep_days, keep_bytes, every_s
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Whether `step` has anything to look for yet."""
        return bool(self._days or self._bytes) and now >= self._next

    def step(self, db: sqlite3.Connection, now: float) -> int:
        """Remove at most one image interval of every shard, if it is time; records removed. Raises StoreError."""
        if not self.is_due(now):
            return 0
        try:
            newest = db.execute("SELECT max(recv_min) FROM block WHERE recv_min<=recv_max").fetchone()[0]
            limit = None if newest is None else self._limit(db, newest)
            removed = 0 if limit is None else self._remove(db, limit, sure=limit <= newest)
            # not execute: it takes the pragma's first row of no columns for its end, one page a call
            db.executescript(f"PRAGMA incremental_vacuum({STEP_PAGES})")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise store_error(self._path, error) from error
        self._next = now + (0 if removed else self._every_s)
        if removed:
            log.info("retention", path=str(self._path), removed=removed, before=limit)
        return removed

    def _limit(self, db: sqlite3.Connection, newest: int) -> int | None:
        """The ts_recv before which things may go: by age; by size the next image of the oldest shard that has one."""
        limit = int(newest - self._days * DAY_NS) if self._days else None
        if self._bytes:
            pages, free, size = (
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            if (pages - free) * size > self._bytes:
                image = db.execute(
                    "SELECT min(i.recv_run) FROM image i JOIN offset o USING (run, shard) WHERE i.ordinal > o.floor"
                ).fetchone()[0]
                limit = image if limit is None else max(limit, image or 0)
        return limit

    def _remove(self, db: sqlite3.Connection, limit: int, *, sure: bool) -> int:
        """Not `sure`: behind a wrong clock all images are of one time; one interval goes, and no bar by its time."""
        removed, which = 0, "max" if sure else "min"
        db.execute("BEGIN IMMEDIATE")
        newest = db.execute("SELECT max(run) FROM run").fetchone()[0]
        for run, shard, ordinal, recv_run, floor in db.execute(
            "SELECT run, shard, ordinal, recv_run, floor FROM offset"
        ).fetchall():
            key = (run, shard)
            if run != newest and recv_run < limit:
                upto = ordinal
            else:
                row = db.execute(
                    f"SELECT {which}(ordinal) FROM image WHERE run=? AND shard=? AND recv_run<=? AND ordinal>?",  # noqa: S608
                    (*key, limit, floor),
                ).fetchone()
                if row[0] is None:
                    continue
                upto = row[0]
            if upto <= floor:
                continue
            # a block that reaches over the image stays: it holds records after it
            removed += db.execute(
                "SELECT coalesce(sum(records), 0) FROM block WHERE run=? AND shard=? AND last<=?",
                (*key, upto),
            ).fetchone()[0]
            for table in ("block", "bbo_block"):
                db.execute(f"DELETE FROM {table} WHERE run=? AND shard=? AND last<=?", (*key, upto))  # noqa: S608
            db.execute("DELETE FROM image WHERE run=? AND shard=? AND ordinal<?", (*key, upto))
            db.execute(
                "DELETE FROM control WHERE run=? AND shard=? AND ordinal<=? AND ordinal>1", (*key, upto)
            )
            _remove_trades(db, run, shard, upto)
            db.execute("UPDATE offset SET floor=? WHERE run=? AND shard=?", (upto, *key))
            if run != newest and upto == ordinal:
                db.execute("DELETE FROM tail WHERE run=? AND shard=?", key)
                db.execute("DELETE FROM presence WHERE run=? AND shard=?", key)
                db.execute("DELETE FROM image WHERE run=? AND shard=?", key)
        for (run,) in db.execute(
            "SELECT run FROM run WHERE run<>? AND NOT EXISTS"
            " (SELECT 1 FROM offset o WHERE o.run=run.run AND o.floor<o.ordinal)",
            (newest,),
        ).fetchall():
            for table in (
                "bar",
                "activity",
                "symbol",
                "instrument",
                "book",
                "control",
                "series",
                "offset",
                "run",
            ):
                db.execute(f"DELETE FROM {table} WHERE run=?", (run,))  # noqa: S608
        if sure:
            db.execute("DELETE FROM bar WHERE run=? AND ts<?", (newest, limit - limit % MINUTE_NS))
            db.execute("DELETE FROM activity WHERE run=? AND minute<?", (newest, limit // MINUTE_NS))
        db.execute("COMMIT")
        return removed


def _remove_trades(db: sqlite3.Connection, run: int, shard: int, upto: int) -> None:
    """Those of a shard's instruments up to an ordinal."""
    bases = db.execute(
        "SELECT series << ?1 FROM series WHERE run=?2 AND instrument_id IN"
        " (SELECT instrument_id FROM book WHERE run=?2 AND shard=?3)",
        (SERIES_SHIFT, run, shard),
    ).fetchall()
    db.executemany("DELETE FROM trade WHERE id BETWEEN ?1 AND ?1 + ?2", [(base, upto) for (base,) in bases])
