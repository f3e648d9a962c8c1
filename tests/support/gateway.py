"""A gateway in this process, or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import httpx

from services.gateway.service import GatewayService
from services.gateway.settings import GatewaySettings
from shared.errors import MboError
from tests.support import eventually
from tests.support.feed import Feed
from tests.support.sse import OPEN, TRUST


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
