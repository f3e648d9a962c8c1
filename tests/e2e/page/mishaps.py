"""A real pipeline that goes wrong when told to, over HTTP: the page's tests are told the two addresses.

`next-file`: what follows the cut file the feed began with comes, and begins every book anew. `stall`, `flow`: the
page's network stands still until the gateway has given it up, and goes on. `lose`: the gateway sleeps while the entries
it has not read are trimmed and all images are lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from shared.broker import Broker
from shared.embedded import EmbeddedBroker
from shared.records import MBO, Rows
from shared.units import ACTION_CLEAR, F_LAST, MBO_BYTES, RTYPE_MBO, SIDE_NONE, UNDEF_PX
from shared.wire.keys import parse_id
from tests.support import eventually
from tests.support.dbn_files import metadata, write
from tests.support.pipeline import Pipeline

FEED = "test.set"
RATE = 1000  # records a second
FIRST, FOLLOWING = 4_000, 400_000  # records
SMALL_BYTES = 8192  # of the relay's receive buffer: a page that stops reading is noticed soon
SYMBOLS = {"ONE": 10_001, "TWO": 10_002}


def market(seed: int, start_ns: int, messages: int) -> Rows:
    spec = MarketSpec(
        seed=seed,
        instruments=len(SYMBOLS),
        rate=RATE,
        start=start_ns,
        messages=messages,
        day_s=900,
        preopen_s=0.5,
    )
    return np.concatenate([item.copy() for item in Simulation(spec).items() if not isinstance(item, dict)])


def begun_anew(records: Rows) -> Rows:
    """The records behind an R of each of their books."""
    clears = np.zeros(len(SYMBOLS), MBO)
    clears["length"], clears["rtype"], clears["publisher_id"] = MBO_BYTES // 4, RTYPE_MBO, 1
    clears["instrument_id"] = list(SYMBOLS.values())
    clears["ts_event"] = clears["ts_recv"] = records["ts_recv"][0]
    clears["action"], clears["side"], clears["flags"], clears["price"] = (
        ACTION_CLEAR,
        SIDE_NONE,
        F_LAST,
        UNDEF_PX,
    )
    return np.concatenate((clears, records))


class Relay:
    """A TCP relay in front of the gateway; while it is stalled it takes no bytes of the gateway's."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.flows = threading.Event()
        self.flows.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                page, _ = self._server.accept()
                gateway = socket.socket()
                gateway.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
                try:
                    gateway.connect(self._target)
                except OSError:
                    page.close()
                    continue
                threading.Thread(target=self._join, args=(page, gateway), daemon=True).start()

    def _join(self, page: socket.socket, gateway: socket.socket) -> None:
        """Both ways, until one end has closed."""
        requests = threading.Thread(target=self._copy, args=(page, gateway, False), daemon=True)
        requests.start()
        self._copy(gateway, page, True)
        requests.join()
        page.close()
        gateway.close()

    def _copy(self, source: socket.socket, sink: socket.socket, stalls: bool) -> None:
        with contextlib.suppress(OSError):
            while True:
                if stalls:
                    self.flows.wait()
                blob = source.recv(SMALL_BYTES)
                if not blob:
                    break
                sink.sendall(blob)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.flows.set()
        self._server.close()


class Mishaps:
    """Use as a context manager; `address` is the page's, `control` that of the mishaps."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, folder / "in"
        self._files.mkdir(parents=True)
        names = metadata(symbols=SYMBOLS)
        begin = market(1, 1_700_000_000_000_000_000, FIRST)
        first = write(self._files / "1.dbn", begin, names)
        first.write_bytes(first.read_bytes()[:-10])
        later = market(2, int(begin["ts_recv"][-1]) + 1_000_000_000, FOLLOWING)
        self._next = write(folder / "2.dbn", begun_anew(later), names)
        self._server = EmbeddedBroker(folder / "broker")
        self._server.start()
        self._broker = Broker(self._server.url, name="mishaps")
        self._pipeline = Pipeline(
            folder / "data", "--broker", self._server.url, "--source", str(self._files), "--watch", "--rate", str(RATE),
            env={"MBO_SLOW_AFTER_S": "1", "MBO_CLIENT_BUDGET_BYTES": "4096"},
        )  # fmt: skip
        self._gateway = self._pipeline.address()
        parts = urlsplit(self._gateway)
        assert parts.hostname is not None
        assert parts.port is not None
        self._relay = Relay((parts.hostname, parts.port))
        self.address = self._relay.url
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.control = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def __enter__(self) -> Mishaps:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._relay.close()
        self._pipeline.__exit__()
        self._broker.close()
        self._server.stop()

    @property
    def log(self) -> str:
        return self._pipeline.log

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        actions: dict[str, Callable[[], None]] = {
            "/next-file": self.next_file, "/stall": self._relay.flows.clear, "/flow": self.flow, "/lose": self.lose,
        }  # fmt: skip

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    actions[self.path]()
                    status, text = 200, "done"
                except Exception as error:  # noqa: BLE001 - told to the test
                    status, text = 500, repr(error)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler

    def next_file(self) -> None:
        self._next.rename(self._files / "2.dbn")

    def _row(self) -> dict[str, Any]:
        """What the gateway says of itself in the broker."""
        rows = [json.loads(text) for text in self._broker.hash(self._broker.keys.procs).values()]
        (row,) = [row for row in rows if row["role"] == "gateway"]
        return dict(row)

    def _clients(self) -> int:
        return int(httpx.get(f"{self._row()['admin']}/readyz", timeout=5).json()["clients"])

    def flow(self) -> None:
        eventually(lambda: self._clients() == 0, timeout_s=60)
        self._relay.flows.set()

    def lose(self) -> None:
        """Long enough that the entries it lacks are of every shard that has any."""
        gateway = int(self._row()["pid"])
        meta = self._broker.hash(self._broker.keys.feed(FEED, "meta"))
        keys = self._broker.keys
        outs = [keys.shard(FEED, shard, "out") for shard in range(int(meta["shards"]))]

        def ends() -> list[int]:
            return [parse_id(last.id)[1] if last else 0 for last in self._broker.last_ids(outs)]

        before = ends()
        busy = [shard for shard, end in enumerate(before) if end > RATE]
        os.kill(gateway, signal.SIGSTOP)
        try:
            eventually(lambda: all(ends()[shard] > before[shard] + RATE // 4 for shard in busy), timeout_s=60)
            for shard in busy:
                self._broker.call("DEL", keys.shard(FEED, shard, "img"))
                self._broker.call("XTRIM", outs[shard], "MAXLEN", 1)
        finally:
            os.kill(gateway, signal.SIGCONT)
