"""A client of the gateway's stream: keeps true books, reconnects, resumes. Synchronous, on httpx-sse.

    for event in Client("http://127.0.0.1:8080", symbols="CLX5", channels="book,trades", depth=10):
        if event.name in ("snapshot", "delta"):
            print(event.book.bids[:1], event.book.asks[:1])

The rule it follows is in services/gateway/README.md. `mbo watch`, the README and the end-to-end tests use it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
from httpx_sse import SSEError, connect_sse

from shared import logs

log = logs.get("client")
FINAL = ("ended", "expired", "revoked", "replayed")  # a `bye` after which reconnecting has no sense
READ_TIMEOUT_S = 45.0  # three heartbeats
F_LAST = 128
BACKOFF_FIRST_S = 0.2
BACKOFF_MOST_S = 10.0
WARN_EVERY_S = 5.0
Level = tuple[str, int, int]  # price (exact decimal text), size, order count


@dataclass(slots=True)
class Book:
    """One `book` view as it stands: a level by its price text; `bids` and `asks` best first."""

    state: dict[str, Any]
    sides: dict[str, dict[str, Level]] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: dict[str, Any]) -> Book:
        return cls(
            snapshot, {side: {row[0]: tuple(row) for row in snapshot[side]} for side in ("bids", "asks")}
        )

    def apply(self, delta: dict[str, Any]) -> None:
        """Absolute sizes, 0 = gone; every other member replaces that of the state."""
        for side in ("bids", "asks"):
            for price, size, count in delta[side]:
                if size:
                    self.sides[side][price] = (price, size, count)
                else:
                    self.sides[side].pop(price, None)
        self.state.update({name: value for name, value in delta.items() if name not in ("bids", "asks", "p")})

    @property
    def bids(self) -> list[Level]:
        return sorted(self.sides["bids"].values(), key=lambda row: Decimal(row[0]), reverse=True)

    @property
    def asks(self) -> list[Level]:
        return sorted(self.sides["asks"].values(), key=lambda row: Decimal(row[0]))


def rows_after(rows: list[list[Any]], q: int) -> list[list[Any]]:
    """Rows of an `mbo` batch that a reader at `q` does not have: those behind the last event that ended until then."""
    ends = [index for index, row in enumerate(rows) if row[0] <= q and row[6] & F_LAST]
    return rows[ends[-1] + 1 :] if ends else rows


class Event(NamedTuple):
    """One event that was taken: deltas that do not follow and trades already seen are not given out."""

    name: str
    data: dict[str, Any]
    book: Book | None = None  # of a `book` view: as it stands after this event


def http_client(**options: Any) -> httpx.Client:
    """An httpx client that reaches loopback itself, whatever HTTP_PROXY says."""
    direct: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
    return httpx.Client(mounts=direct, **options)


class Client:
    """Iterate for events; it ends with a final `bye`, and raises httpx.HTTPStatusError for a 4xx answer.

    Anything else, a gateway that is not there too, is tried again for ever, with a warning in the log that says why.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        path: str = "/v1/stream",
        http: httpx.Client | None = None,
        **query: Any,
    ) -> None:
        if query.get("encoding", "rows") != "rows":
            raise ValueError("this client reads encoding=rows")
        self.url, self.query = url.rstrip("/") + path, {name: str(value) for name, value in query.items()}
        self.books: dict[str, Book] = {}
        self.connects = 0
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = http or http_client(timeout=httpx.Timeout(10.0, read=READ_TIMEOUT_S))
        self._positions: dict[str, int] = {}  # q by view, of `mbo` and `book`
        self._trades: dict[
            str, tuple[int, int, int]
        ] = {}  # (session, end, ordinal) of the last trade by view
        self._last_id = ""

    def __iter__(self) -> Iterator[Event]:
        backoff = BACKOFF_FIRST_S
        while True:
            retry = backoff
            try:
                for event in self._connection():
                    backoff = BACKOFF_FIRST_S
                    yield event
                    if event.name == "bye":
                        if event.data["retry_ms"] is None or event.data["reason"] in FINAL:
                            return
                        retry = event.data["retry_ms"] / 1000
            except (httpx.TransportError, SSEError) as error:
                why = str(error) or type(error).__name__
                log.limited("no stream", WARN_EVERY_S, url=self.url, why=why, retry_s=retry)
                backoff = min(backoff * 2, BACKOFF_MOST_S)
            time.sleep(retry * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def _connection(self) -> Iterator[Event]:
        headers = {**self._headers, **({"Last-Event-ID": self._last_id} if self._last_id else {})}
        with connect_sse(self._http, "GET", self.url, params=self.query, headers=headers) as source:
            if source.response.status_code >= 500:
                raise httpx.RemoteProtocolError(f"the gateway answers {source.response.status_code}")
            if source.response.status_code >= 400:
                source.response.read()
                source.response.raise_for_status()
            self.connects += 1
            for message in source.iter_sse():
                if message.id:
                    self._last_id = message.id
                if message.data:
                    event = self.take(message.event, json.loads(message.data))
                    if event is not None:
                        yield event

    def take(self, name: str, data: dict[str, Any]) -> Event | None:
        """Follow the rule; None for what must be ignored."""
        if name == "hello":
            for view in data["views"]:
                if view["resumed"] and view["view"] in self._positions:
                    mine = self._positions[view["view"]] if view["channel"] == "mbo" else 0
                    self._positions[view["view"]] = max(mine, view["q"])
                elif view["channel"] in ("book", "mbo"):
                    self._positions.pop(view["view"], None)
                    self.books.pop(view["view"], None)
        elif name == "snapshot":
            self._positions[data["view"]] = data["q"]
            if data["channel"] == "book":
                self.books[data["view"]] = Book.of(data)
        elif name == "delta":
            if self._positions.get(data["view"]) != data["p"]:
                return None
            self._positions[data["view"]] = data["q"]
            self.books[data["view"]].apply(data)
        elif name == "mbo":
            mine = self._positions.get(data["view"], -1)
            if not data["p"] <= mine < data["q"]:
                return None
            data["rows"] = rows_after(data["rows"], mine)
            self._positions[data["view"]] = data["q"]
        elif name == "trade":
            place = (data["session"], data["end"], data["ordinal"])
            if place <= self._trades.get(data["view"], (0, 0, 0)):
                return None
            self._trades[data["view"]] = place
        return Event(name, data, self.books.get(data.get("view", "")))

    def close(self) -> None:
        self._http.close()
