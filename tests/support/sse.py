"""A stream client that keeps everything it got, and what its events add up to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
from httpx_sse import connect_sse

from shared.wire import schemas
from tests.support import eventually

TRUST = ssl.create_default_context()  # once: it costs 30 ms a client otherwise


@dataclasses.dataclass
class Got:
    name: str
    data: dict[str, Any]


OPEN: list[Stream] = []  # closed with their gateway


class Stream:
    """An SSE client in a thread: every event, checked against its schema; `id` is the last one seen."""

    def __init__(
        self,
        url: str,
        query: str,
        *,
        last_id: str = "",
        headers: Mapping[str, str] | None = None,
        path: str = "/v1/stream",
    ) -> None:
        self.server = url
        OPEN.append(self)
        self.events: list[Got] = []
        self.id = ""
        self.marks: list[tuple[int, str]] = []  # (events before it, id)
        self.status = 0
        self.ended = False
        self._socket: socket.socket | None = None
        self._client = httpx.Client(timeout=httpx.Timeout(10, read=60), verify=TRUST)
        self._url = f"{url}{path}?{query}"
        self._headers = {**(headers or {}), **({"Last-Event-ID": last_id} if last_id else {})}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with connect_sse(self._client, "GET", self._url, headers=self._headers) as source:
                self.status = source.response.status_code
                self._socket = source.response.extensions["network_stream"].get_extra_info("socket")
                for message in source.iter_sse() if self.status == 200 else ():
                    if message.data:
                        self.events.append(Got(message.event, json.loads(message.data)))
                    if message.id and message.id != self.id:
                        self.id = message.id
                        self.marks.append((len(self.events), message.id))
        except httpx.HTTPError:
            pass
        finally:
            self.ended = True

    def all(self, name: str) -> list[dict[str, Any]]:
        return [event.data for event in list(self.events) if event.name == name]

    def first(
        self, name: str, where: Callable[[dict[str, Any]], object] = lambda data: True
    ) -> dict[str, Any]:
        """The first such event; waits for it."""
        return eventually(lambda: next((data for data in self.all(name) if where(data)), None))

    def until_id(self, feed: str, shard: int, ordinal: int) -> None:
        """Wait until the stream says that it stands at this ordinal or later."""
        from services.gateway import vector

        def there() -> bool:
            position = vector.parse(self.id).get(vector.ShardKey(feed, shard))
            return position is not None and position.ordinal >= ordinal

        eventually(there)

    def check(self) -> None:
        """Every event is valid under its schema."""
        for event in self.events:
            schemas.validator(event.name).validate(event.data)

    def close(self) -> None:
        if self in OPEN:
            OPEN.remove(self)
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._client.close()


def fold(events: list[Got], view: str = "") -> dict[str, dict[str, Any]]:
    """The README's ten-line rule, with `merge` spelled out: views by name, sides as {price: (size, count)}."""
    views: dict[str, dict[str, Any]] = {}
    for event in events:
        e = event.data
        if event.name == "hello":
            for v in e["views"]:
                if v["resumed"] and v["view"] in views:
                    views[v["view"]]["q"] = v["q"]
                else:
                    views.pop(v["view"], None)
        elif event.name == "snapshot" and e["channel"] == "book":
            sides = {side: {px: (size, count) for px, size, count in e[side]} for side in ("bids", "asks")}
            views[e["view"]] = {**e, **sides}
        elif event.name == "delta" and views.get(e["view"], {}).get("q") == e["p"]:
            mine = views[e["view"]]
            for side in ("bids", "asks"):
                for px, size, count in e[side]:
                    if size:
                        mine[side][px] = (size, count)
                    else:
                        mine[side].pop(px, None)
            mine.update({k: x for k, x in e.items() if k not in ("bids", "asks")})
    return views


def book_sides(body: Mapping[str, Any]) -> dict[str, dict[str, tuple[int, int]]]:
    """bids and asks of a /v1/book answer as {price: (size, count)}."""
    return {side: {px: (size, count) for px, size, count in body[side]} for side in ("bids", "asks")}


def blocks(text: str) -> Iterator[Got]:
    """Events of a recorded SSE body."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            yield Got(fields.get("event", "message"), json.loads(fields["data"]))
