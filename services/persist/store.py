"""One feed's SQLite file: opened by its one writer under a lock, its schema brought up to date, or read by others."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
from importlib import resources
from pathlib import Path

import numpy as np

from shared.errors import StoreError

SUFFIX = ".sqlite"
SERIES_SHIFT = (
    40  # a trade's key is series << 40 | ordinal: 8 million instruments a file, 10^12 records a shard
)
UNDEF = 2**63 - 1  # an undefined or impossible time or price in an INTEGER column
PAGE_BYTES = 16384  # blocks are 140 KB: at 8192 a commit takes up to half as long again
WAL_LIMIT_BYTES = 64 * 1024 * 1024  # what the WAL is cut back to after a checkpoint
BUSY_MS = 5_000
_STEP = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


def store_dir(root: str | Path) -> Path:
    """The folder of the store files in a data directory."""
    return Path(root) / "store"


def store_path(root: str | Path, feed: str) -> Path:
    return store_dir(root) / f"{feed}{SUFFIX}"


def feeds_in(root: str | Path) -> list[str]:
    """Feeds that have a store file."""
    return sorted(path.name[: -len(SUFFIX)] for path in store_dir(root).glob(f"*{SUFFIX}"))


def steps() -> list[tuple[int, str, str]]:
    """(number, name, SQL) of every schema file, in order."""
    folder = resources.files("services.persist").joinpath("schema").iterdir()
    named = ((_STEP.match(entry.name), entry) for entry in folder)
    return sorted(
        (int(match[1]), match[2], entry.read_text(encoding="utf-8")) for match, entry in named if match
    )


def migrate(db: sqlite3.Connection, upto: int | None = None) -> list[int]:
    """Apply the schema files the database does not have, each with its record in one transaction; the numbers applied.

    Raises StoreError if the file is of a newer program.
    """
    db.execute(
        "CREATE TABLE IF NOT EXISTS migration"
        " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied TEXT NOT NULL) STRICT"
    )
    have = {row[0] for row in db.execute("SELECT number FROM migration")}
    known = steps()
    newest = known[-1][0]
    if have and max(have) > newest:
        raise StoreError(f"the store has schema {max(have)}, this program knows {newest}: upgrade it")
    applied = []
    for number, name, sql in known:
        if number in have or (upto is not None and number > upto):
            continue
        # executescript commits what is open and runs statement by statement: the transaction is in the script
        try:
            db.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\n"
                f"INSERT INTO migration VALUES ({number}, '{name}', strftime('%Y-%m-%dT%H:%M:%fZ'));\nCOMMIT;"
            )
        except sqlite3.Error:
            if db.in_transaction:
                db.rollback()
            raise
        applied.append(number)
    return applied


class Store:
    """The writer's connection. Raises StoreError if another process has the file, or the disk or file is bad."""

    def __init__(self, path: Path, *, full_sync: bool = True) -> None:
        self.path = path
        self._lock = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            message = f"{path} is being written by another persist: stop it, or use another --data"
            raise StoreError(message, why="locked") from None
        except OSError as error:
            self.close()
            message = f"{path}: {error.strerror}: is the data directory writable?"
            raise StoreError(message, why="unwritable") from error
        try:
            self.db = sqlite3.connect(
                path, isolation_level=None, timeout=BUSY_MS / 1000, check_same_thread=False
            )
            self.db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            self.db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
            self.db.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
            self.db.execute("PRAGMA cache_size=-32768")
            self.db.execute("PRAGMA wal_autocheckpoint=1000")
            self.db.create_function("with_seconds", 2, _with_seconds, deterministic=True)
            migrate(self.db)
        except sqlite3.Error as error:
            self.close()
            raise store_error(path, error) from error

    def close(self) -> None:
        db = getattr(self, "db", None)
        if db is not None:
            db.close()
            del self.db
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _with_seconds(stored: bytes, more: bytes) -> bytes:
    """What a minute's `activity.seconds` becomes when the minute goes on."""
    both = np.frombuffer(stored or bytes(len(more)), "<u4") + np.frombuffer(more, "<u4")
    return bytes(both.tobytes())


def update(path: Path) -> None:
    """Bring a store that an older program wrote up to date, before it is read.

    StoreError if there is no such store, if it is of a newer program, or if an older one is writing it.
    """
    if not path.exists():
        raise StoreError(f"no store {path}: is --data the directory `mbo persist` writes to?")
    newest = steps()[-1][0]
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_MS / 1000)
        ) as db:
            have = db.execute("SELECT max(number) FROM migration").fetchone()[0] or 0
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    if have != newest:
        Store(path).close()


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; StoreError as `update` raises it."""
    update(path)
    try:
        db = sqlite3.connect(
            f"file:{path}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=BUSY_MS / 1000,
            check_same_thread=False,
        )
        db.execute("PRAGMA query_only=1")
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    return db


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What an SQLite error means for the operator."""
    text = str(error)
    if isinstance(error, sqlite3.OperationalError) and "full" in text:
        return StoreError(
            f"{path}: the disk is full: make room or lower --keep-gb; nothing acknowledged is lost",
            why="full",
        )
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return StoreError(
            f"{path} is damaged ({text}): move it aside, keep it for `sqlite3 .recover`", why="corrupt"
        )
    return StoreError(f"{path}: {text}", why="disk")
