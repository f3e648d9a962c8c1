"""Run the pipeline as a user does: `mbo up …` in a process of its own, and an SSE client on an independent library."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import httpx
from httpx_sse import connect_sse

from shared.embedded import die_with_parent
from tests.support import eventually

ADDRESS = re.compile(r"page and API on (http://[0-9.:]+)")
Level = tuple[str, int, int]


class Pipeline:
    """`mbo up` with `--port 0`; use as a context manager.

    It runs on `default_broker` unless that is empty or `args` choose a broker: under a prefix that is the data
    folder's, so that the same folder goes on where it was. `url` and `prefix` are those of its broker, `where` says
    them to a command.
    """

    default_broker: ClassVar[str] = ""

    def __init__(self, data: Path, *args: str, env: dict[str, str] | None = None) -> None:
        self.data = data
        if self.default_broker and "--broker" not in args:
            args = ("--broker", self.default_broker, "--prefix", f"t{zlib.crc32(bytes(data)):08x}.", *args)
        said = dict(pairwise(args))
        own = f"unix://{data}/broker/broker.sock"
        self.url, self.prefix = said.get("--broker", own), said.get("--prefix", "")
        self.is_embedded = self.url == own
        self.where = (
            ("--data", str(data)) if self.is_embedded else ("--broker", self.url, "--prefix", self.prefix)
        )
        command = [
            sys.executable, "-m", "services", "up", "--data", str(data), "--port", "0", "--log", "json", *args,
        ]  # fmt: skip
        self.log_path = data.with_suffix(".log")
        self._log = self.log_path.open("wb")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MBO_")} | (env or {})
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environ,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def address(self) -> str:
        """The page's address, once it is printed."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := ADDRESS.search(line):
                return found[1]
        raise AssertionError(f"no address; status {self.process.wait()}; log: {self.log[-2000:]}")

    def wait(self, timeout_s: float = 120) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM as an operator would; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(60)


class BookClient(threading.Thread):
    """Follows the documented delta rule on `book`; `books` maps (symbol, view) to {side: {price: (size, count)}}."""

    def __init__(self, address: str, **query: str) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.query = {"symbols": "ALL_SYMBOLS", "channels": "book", "depth": "all", **query}
        self.views: dict[str, dict[str, Any]] = {}
        self.events: dict[str, int] = {}
        self.bye: str | None = None
        self.ignored = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            eventually(self._is_up, timeout_s=60)
            timeout = httpx.Timeout(30, connect=5)
            with (
                httpx.Client(timeout=timeout) as client,
                connect_sse(client, "GET", f"{self.address}/v1/stream", params=self.query) as source,
            ):
                for event in source.iter_sse():
                    if event.data:
                        self._on(event.event, json.loads(event.data))
                    if self.bye:
                        return
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.error = error

    def _is_up(self) -> bool:
        try:
            return bool(httpx.get(f"{self.address}/v1/instruments", timeout=2).json()["instruments"])
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def _on(self, kind: str, event: dict[str, Any]) -> None:
        self.events[kind] = self.events.get(kind, 0) + 1
        if kind == "snapshot":
            sides = {
                side: {px: (size, count) for px, size, count in event[side]} for side in ("bids", "asks")
            }
            self.views[event["view"]] = {**event, **sides}
        elif kind == "delta":
            view = self.views.get(event["view"])
            if view is None or view["q"] != event["p"]:
                self.ignored += 1
                return
            for side in ("bids", "asks"):
                for px, size, count in event.get(side, ()):
                    if size:
                        view[side][px] = (size, count)
                    else:
                        view[side].pop(px, None)
            view.update({k: v for k, v in event.items() if k not in ("bids", "asks")})
        elif kind == "bye":
            self.bye = str(event["reason"])

    def book(self, symbol: str) -> tuple[list[Level], list[Level]]:
        """(bids, asks) of a symbol, best first, as (price text, size, count)."""
        view = next(view for view in self.views.values() if view["symbol"] == symbol)

        def side(name: str, *, down: bool) -> list[Level]:
            rows = [(px, size, count) for px, (size, count) in view[name].items()]
            return sorted(rows, key=lambda row: float(row[0]), reverse=down)

        return side("bids", down=True), side("asks", down=False)
