"""The history API's client: sync, standard library, safe in many threads. The API: services/persist/README.md."""

from __future__ import annotations

import http.client
import json
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from shared.blocks import KIND_MBO
from shared.broker import Broker
from shared.history import History, Json
from shared.history_replay import Replay, Step, replay
from shared.history_types import (
    OPEN_END,
    Activity,
    BookAt,
    Control,
    Day,
    HistoryDown,
    HistoryError,
    InstrumentInfo,
    SessionInfo,
    Span,
    StoredImage,
)

__all__ = [
    "OPEN_END", "Activity", "BookAt", "Day", "Directory", "History", "HistoryDown", "HistoryError", "InstrumentInfo",
    "RemoteHistory", "Replay", "SessionInfo", "Span", "Step", "StoredImage", "replay",
]  # fmt: skip

ADVERT_DEAD_S = 10.0
LOOKUP_S = 2.0
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_IDLE = 4  # connections kept for the next request
_LENGTH = struct.Struct("<I")


class RemoteHistory(History):
    """A reader process, by URL and token."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise HistoryError(f"history URL {url!r} is not http://HOST:PORT")
        self.url = url
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._timeout_s = parts.hostname, parts.port, timeout_s
        self._headers = {"Authorization": f"Bearer {token}"}
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close idle connections; running iterations keep theirs."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # -- transport ---------------------------------------------------------------------------------------------------

    def _open(
        self, path: str, **parameters: Any
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        given = {name: value for name, value in parameters.items() if value is not None}
        target = f"/h1/{path}" + (f"?{urlencode(given)}" if given else "")
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            connection = kept or self._make(self._host, self._port, timeout=self._timeout_s)
            try:
                connection.request("GET", target, headers=self._headers)
                response = connection.getresponse()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if (
                    kept is None
                ):  # a kept connection may have been closed meanwhile: only a new one's failure counts
                    raise HistoryDown(f"history reader {self.url}: {error}") from error
        if response.status in (200, 204):
            return connection, response
        body = response.read()
        self._keep(connection, response)
        try:
            detail = json.loads(body).get("detail", "")
        except (ValueError, AttributeError):
            detail = body[:200].decode(errors="replace")
        if response.status >= 500:
            raise HistoryDown(f"history reader {self.url}: {detail or response.reason}")
        raise HistoryError(detail or f"history reader answers {response.status}", status=response.status)

    def _keep(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        with self._lock:
            if not response.will_close and response.isclosed() and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _bytes(self, path: str, **parameters: Any) -> tuple[http.client.HTTPResponse, bytes]:
        connection, response = self._open(path, **parameters)
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise HistoryDown(f"history reader {self.url}: {error}") from error
        self._keep(connection, response)
        return response, body

    def _json(self, path: str, **parameters: Any) -> Any:
        return json.loads(self._bytes(path, **parameters)[1])

    def _frames(self, path: str, **parameters: Any) -> Iterator[bytes]:
        opened, response = self._open(path, **parameters)
        connection: http.client.HTTPConnection | None = opened
        try:
            while True:
                (size,) = _LENGTH.unpack(self._exactly(response, _LENGTH.size))
                if size == 0:
                    response.read()
                    connection = None
                    self._keep(opened, response)
                    return
                if size > MAX_FRAME_BYTES:
                    raise HistoryError(f"history reader sent a frame of {size} bytes")
                yield self._exactly(response, size)
        except (OSError, http.client.HTTPException) as error:
            raise HistoryDown(f"history reader {self.url}: {error}") from error
        finally:
            if connection is not None:
                connection.close()

    def _exactly(self, response: http.client.HTTPResponse, size: int) -> bytes:
        piece = response.read(size)
        if len(piece) < size:
            raise HistoryDown(f"history reader {self.url}: the answer was cut off")
        return piece

    # -- questions ---------------------------------------------------------------------------------------------------

    def feeds(self) -> list[str]:
        return list(self._json("feeds"))

    def _sessions(self, feed: str) -> list[Json]:
        return list(self._json(f"{quote(feed)}/sessions"))

    def _instruments(self, feed: str, run: int) -> list[Json]:
        return list(self._json(f"{quote(feed)}/instruments", run=run))

    def _spans(self, feed: str, symbol: str, run: int) -> list[Json]:
        return list(self._json(f"{quote(feed)}/spans", symbol=symbol, run=run))

    def _days(self, feed: str, run: int | None) -> list[Json]:
        return list(self._json(f"{quote(feed)}/days", run=run))

    def _activity(
        self, feed: str, run: int, start: int, end: int, buckets: int, instrument_id: int | None
    ) -> Json:
        answer: Json = self._json(
            f"{quote(feed)}/activity",
            run=run,
            start=start,
            end=end,
            buckets=buckets,
            instrument_id=instrument_id,
        )
        return answer

    def position(self, feed: str, run: int, at: int) -> list[int]:
        return [int(ordinal) for ordinal in self._json(f"{quote(feed)}/position", run=run, at=at)]

    def _controls(self, feed: str, run: int, shard: int, first: int, last: int) -> Iterator[Control]:
        for frame in self._frames(f"{quote(feed)}/controls", run=run, shard=shard, first=first, last=last):
            ordinal, n, body = json.loads(frame)
            yield ordinal, n, body

    def _blocks(
        self, feed: str, run: int, shard: int, kind: int, *, first: int, last: int, start: int | None = None,
        end: int | None = None, instrument_id: int | None = None,
    ) -> Iterator[bytes]:  # fmt: skip
        return self._frames(
            f"{quote(feed)}/blocks", run=run, shard=shard, kind="mbo" if kind == KIND_MBO else "bbo", first=first,
            last=last, start=start, end=end, instrument_id=instrument_id,
        )  # fmt: skip

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
        return self._frames(
            f"{quote(feed)}/trades",
            run=run,
            instrument_id=instrument_id,
            first=first,
            last=last,
            start=start,
            end=end,
        )

    def _bars(
        self, feed: str, run: int, instrument_id: int, interval_s: int, *, first: int, last: int, start: int | None,
        end: int | None,
    ) -> Iterator[bytes]:  # fmt: skip
        return self._frames(
            f"{quote(feed)}/bars",
            run=run,
            instrument_id=instrument_id,
            interval=interval_s,
            first=first,
            last=last,
            start=start,
            end=end,
        )

    def image(self, feed: str, run: int, shard: int, before: int) -> StoredImage | None:
        response, body = self._bytes(f"{quote(feed)}/image", run=run, shard=shard, before=before)
        if response.status == 204:
            return None
        return StoredImage(int(response.headers["X-Ordinal"]), int(response.headers["X-Recv-Run"]), body)


class Directory:
    """Which reader serves which feed, from `{mbo}:history`; cached for 2 s. Holds its broker: one thread at a time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        self._looked = float("-inf")
        self._clients: dict[tuple[str, str], RemoteHistory] = {}

    def _look(self) -> dict[str, dict[str, Any]]:
        now = time.monotonic()
        if now - self._looked >= LOOKUP_S:
            key = self._broker.keys.history
            rows = {feed: json.loads(text) for feed, text in self._broker.hash(key).items()}
            dead = self._broker.time_ms(key) / 1000 - ADVERT_DEAD_S  # its clock: those of hosts differ
            self._rows = {feed: row for feed, row in rows.items() if float(row["at"]) / 1000 > dead}
            self._looked = now
        return self._rows

    def feeds(self) -> list[str]:
        """Feeds with a living reader."""
        with self._lock:
            return sorted(self._look())

    def history(self, feed: str) -> RemoteHistory:
        """The reader of a feed; HistoryDown if none is alive."""
        with self._lock:
            row = self._look().get(feed)
            if row is None:
                self._looked = float("-inf")
                raise HistoryDown(
                    f"no history reader of feed {feed} is running: is `mbo persist` up?", feed=feed
                )
            key = (str(row["url"]), str(row["token"]))
            if key not in self._clients:
                for old in self._clients.values():
                    old.close()
                self._clients = {key: RemoteHistory(*key)}
            return self._clients[key]
