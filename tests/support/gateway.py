"""A gateway in this process, a feed for it to read, and a stream client that keeps everything it got."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
from httpx_sse import connect_sse

from services.gateway.service import GatewayService
from services.gateway.settings import GatewaySettings
from shared import images
from shared.broker import Broker
from shared.errors import MboError
from shared.orderbook.shard import ShardState
from shared.records import Rows
from shared.wire import schemas
from shared.wire.codec import InEntry, encode_control, encode_out, encode_records
from shared.wire.keys import shard_of, stream_id
from tests.support import eventually

TRUST = ssl.create_default_context()  # once: it costs 30 ms a client otherwise


class Feed:
    """What ingest and book workers leave in the broker, made in step: `records` appends to `:in` and commits `:out`."""

    def __init__(
        self, broker: Broker, name: str = "test.feed", *, shards: int = 1, policy: str = "uncross",
        symbols: Mapping[int, str] | None = None,
    ) -> None:  # fmt: skip
        self.broker, self.name, self.shards, self.policy = broker, name, shards, policy
        self.symbols = dict(symbols or {1: "ONE"})
        self.session = 0
        self.states: dict[int, ShardState] = {}
        self.ordinals: dict[int, int] = {}
        self.publish = True  # False: `:in` grows, `:out` does not
        self.waiting: list[tuple[int, InEntry]] = []
        self.begin()

    def begin(self, symbols: Mapping[int, str] | None = None) -> None:
        """The next session, with its mappings."""
        self.session += 1
        if symbols is not None:
            self.symbols = dict(symbols)
        keys = self.broker.keys
        meta = {
            "shards": self.shards,
            "policy": self.policy,
            "dataset": self.name.upper(),
            "session": self.session,
            "state": "open",
            "readers": "book",
            "identity": f"test {self.session}",
        }
        self.broker.call(
            "HSET", keys.feed(self.name, "meta"), *[part for pair in meta.items() for part in pair]
        )
        self.ordinals = dict.fromkeys(range(self.shards), 0)
        for number, symbol in self.symbols.items():
            row = {"symbol": symbol, "publishers": [], "tick_px": 10_000_000}
            self.broker.call("HSET", keys.feed(self.name, "instruments"), number, json.dumps(row))
        self.broker.call("SADD", keys.feeds, self.name)
        for shard in range(self.shards):
            self.states.setdefault(shard, ShardState(self.policy, kind="reference"))  # type: ignore[arg-type]
            self.control(
                {
                    "type": "begin",
                    "session": self.session,
                    "policy": self.policy,
                    "dataset": self.name.upper(),
                    "identity": f"test {self.session}",
                    "spec": {},
                    "ts": 0,
                    "repaired": False,
                },
                shard,
            )
        for number, symbol in self.symbols.items():
            self.control(
                {"type": "mapping", "instrument_id": number, "symbol": symbol}, shard_of(number, self.shards)
            )

    def control(self, control: dict[str, Any], shard: int = 0) -> None:
        first = self._append(shard, 1, lambda n: encode_control(control, n, self.now(), self.now(), 0))
        self._commit(shard, InEntry(1, first, self.now(), self.now(), 0, None, control))

    def records(self, rows: Rows, shard: int = 0) -> None:
        """One entry of records that all belong to the shard."""
        first = self._append(shard, len(rows), lambda n: encode_records(rows, n, self.now(), self.now(), 0))
        self._commit(shard, InEntry(len(rows), first, self.now(), self.now(), 0, rows, None))

    def end(self) -> None:
        for shard in range(self.shards):
            self.control({"type": "end", "reason": "test"}, shard)
        self.broker.call("HSET", self.broker.keys.feed(self.name, "meta"), "state", "ended")

    @staticmethod
    def now() -> int:
        return time.time_ns()

    def _append(self, shard: int, n: int, encode: Callable[[int], bytes]) -> int:
        first = self.ordinals[shard] + 1
        self.ordinals[shard] += n
        name = self.broker.keys.shard(self.name, shard, "in")
        self.broker.call("XADD", name, stream_id(self.session, self.ordinals[shard]), "d", encode(first))
        return first

    def _commit(self, shard: int, entry: InEntry) -> None:
        self.waiting.append((shard, entry))
        if self.publish:
            self.release()

    def release(self) -> None:
        """Commit what waits."""
        for shard, entry in self.waiting:
            state = self.states[shard]
            batch = state.apply(entry)
            blob = encode_out(
                batch, n=entry.n, first=entry.first, ts_due=entry.ts_due, ts_ingest=entry.ts_ingest, ts_book=self.now(),
                stale=state.stale, control=entry.control,
            )  # fmt: skip
            name = self.broker.keys.shard(self.name, shard, "out")
            self.broker.call("XADD", name, stream_id(self.session, entry.last), "d", blob)
        self.waiting.clear()

    def image(self, shard: int = 0) -> None:
        """Leave an image of the shard as it is, and the previous one."""
        state, keys = self.states[shard], self.broker.keys
        offset = stream_id(state.session, state.ordinal)
        staged = images.stage(
            self.broker, keys.shard(self.name, shard, f"img:{offset}:t"), offset, time.time(), state.image()
        )
        img = keys.shard(self.name, shard, "img")
        if previous := self.broker.call("HGET", img, "newest"):
            self.broker.call("HSET", img, "previous", previous)
        self.broker.call("HSET", img, "newest", staged.pointer)

    def trim(self, stream: str, ordinal: int, shard: int = 0) -> None:
        """Remove entries that end before `ordinal`."""
        name = self.broker.keys.shard(self.name, shard, stream)
        self.broker.call("XTRIM", name, "MINID", stream_id(self.session, ordinal))


class Gateway:
    """A GatewayService whose reader runs in a thread of this process; a context manager."""

    def __init__(self, broker_url: str, prefix: str, **settings: Any) -> None:
        self.settings = GatewaySettings(
            broker=broker_url, prefix=prefix, **{"port": 0, "drain_spread_s": 0.1, **settings}
        )
        self.service = GatewayService(self.settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.failure: BaseException | None = None
        self.http = httpx.Client(timeout=20, verify=TRUST)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.service.start()
                while not self._stop.is_set():
                    if not self.service.step():
                        return
            except MboError as error:
                if not error.recoverable:
                    self.failure = error
                    return
                self.service.reset()
                self._stop.wait(0.05)
            except Exception as error:
                self.failure = error
                raise

    def __enter__(self) -> Gateway:
        self._thread.start()
        eventually(lambda: self.service.hub.accepting or self.failure)
        if self.failure is not None:
            self.service.close()
            raise self.failure
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.close_streams()
        self.http.close()

    def stop(self, *, drain: bool = False) -> None:
        """End it; with `drain` as SIGTERM does, else as if it were killed."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join(5)
        if not drain:
            self.close_streams()
        if drain:
            self.service.drain()
        self.service.close()

    def close_streams(self) -> None:
        for stream in [each for each in OPEN if each.server == self.url]:
            stream.close()

    @property
    def url(self) -> str:
        return self.service.http.address

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(
            self.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=20
        )

    def json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def position(self, feed: Feed, shard: int = 0) -> int:
        """Ordinal up to which the shard is folded; 0 before that."""
        books = {(k.feed, k.shard): b for k, b in self.service.hub.state.books.items()}.get(
            (feed.name, shard)
        )
        return books.ordinal if books and books.session == feed.session else 0

    def caught_up(self, feed: Feed) -> None:
        """Wait until everything committed is folded."""
        eventually(lambda: all(self.position(feed, s) == feed.ordinals[s] for s in range(feed.shards)))


class GatewayProcess:
    """A gateway as operators run it: killed and started again on the same port. A context manager."""

    def __init__(self, broker_url: str, prefix: str, **settings: object) -> None:
        self._settings = {
            "broker": broker_url,
            "prefix": prefix,
            "log": "json",
            "drain_spread_s": 0,
            **settings,
        }
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Returns when it serves the books."""
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        command = [sys.executable, "-m", "services.gateway", f"--port={self.port}", *options]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if '"serving"' in line:
                self.port = int(json.loads(line)["address"].rsplit(":", 1)[1])
                break
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        eventually(lambda: self.json("/v1/instruments")["instruments"])

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def json(self, path: str) -> Any:
        try:
            return httpx.get(self.url + path, timeout=20).raise_for_status().json()
        except httpx.HTTPError as error:
            raise AssertionError(str(error)) from error

    def __enter__(self) -> GatewayProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in [each for each in OPEN if each.server == self.url]:
            stream.close()


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
