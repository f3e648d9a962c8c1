"""History straight from the files of a data directory: `mbo export`, `mbo sql` and the reader process itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.persist import catalog, reader
from services.persist.store import feeds_in, open_reader, store_error, store_path
from shared.history import History, Json
from shared.history_types import Control, HistoryError, StoredImage

MAX_IDLE = 8


class LocalHistory(History):
    """Reads DATA/store; safe in many threads: each running iteration has a connection of its own."""

    def __init__(self, data: str | Path) -> None:
        self._data = data
        self._idle: dict[str, list[sqlite3.Connection]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def connection(self, feed: str) -> Iterator[sqlite3.Connection]:
        """A read-only connection, given back afterwards. HistoryError: unknown feed; StoreError: bad file."""
        with self._lock:
            idle = self._idle.setdefault(feed, [])
            db = idle.pop() if idle else None
        if db is None:
            path = store_path(self._data, feed)
            if feed not in feeds_in(self._data):
                raise HistoryError(f"nothing of feed {feed} is recorded here", feed=feed)
            db = open_reader(path)
        try:
            yield db
        except sqlite3.Error as error:
            db.close()
            db = None
            raise store_error(store_path(self._data, feed), error) from error
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            if db is not None:
                with self._lock:
                    if len(idle) < MAX_IDLE:
                        idle.append(db)
                        db = None
                if db is not None:
                    db.close()

    def close(self) -> None:
        with self._lock:
            for idle in self._idle.values():
                while idle:
                    idle.pop().close()

    def _ask(self, feed: str, question: Callable[..., Any], *args: Any) -> Any:
        with self.connection(feed) as db:
            return question(db, *args)

    def _each(
        self, feed: str, question: Callable[..., Iterator[Any]], *args: Any, **kwargs: Any
    ) -> Iterator[Any]:
        with self.connection(feed) as db:
            yield from question(db, *args, **kwargs)

    def feeds(self) -> list[str]:
        return feeds_in(self._data)

    def _sessions(self, feed: str) -> list[Json]:
        return list(self._ask(feed, catalog.sessions))

    def _instruments(self, feed: str, run: int) -> list[Json]:
        return list(self._ask(feed, catalog.instruments, run))

    def _spans(self, feed: str, symbol: str, run: int) -> list[Json]:
        return list(self._ask(feed, catalog.spans, symbol, run))

    def _days(self, feed: str, run: int | None) -> list[Json]:
        return list(self._ask(feed, catalog.days, run))

    def _activity(
        self, feed: str, run: int, start: int, end: int, buckets: int, instrument_id: int | None
    ) -> Json:
        answer: Json = self._ask(feed, catalog.activity, run, start, end, buckets, instrument_id)
        return answer

    def position(self, feed: str, run: int, at: int) -> list[int]:
        return list(self._ask(feed, reader.position, run, at))

    def _controls(self, feed: str, run: int, shard: int, first: int, last: int) -> Iterator[Control]:
        return self._each(feed, reader.controls, run, shard, first, last)

    def _blocks(
        self, feed: str, run: int, shard: int, kind: int, *, first: int, last: int, start: int | None = None,
        end: int | None = None, instrument_id: int | None = None,
    ) -> Iterator[bytes]:  # fmt: skip
        return self._each(
            feed,
            reader.blocks,
            run,
            shard,
            kind,
            first=first,
            last=last,
            start=start,
            end=end,
            instrument_id=instrument_id,
        )

    def _trades(
        self,
        feed: str,
        run: int,
        instrument_id: int,
        *,
        first: int,
        last: int,
        start: int | None,
        end: int | None,
    ) -> Iterator[bytes]:
        return self._each(
            feed, reader.trades, run, instrument_id, first=first, last=last, start=start, end=end
        )

    def _bars(
        self, feed: str, run: int, instrument_id: int, interval_s: int, *, first: int, last: int, start: int | None,
        end: int | None,
    ) -> Iterator[bytes]:  # fmt: skip
        return self._each(
            feed, reader.bars, run, instrument_id, interval_s, first=first, last=last, start=start, end=end
        )

    def image(self, feed: str, run: int, shard: int, before: int) -> StoredImage | None:
        found: StoredImage | None = self._ask(feed, reader.image_before, run, shard, before)
        return found
