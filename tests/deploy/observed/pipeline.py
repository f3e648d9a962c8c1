"""Broker and services, each a process of its own that nobody restarts, with admin ports that stay the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

from shared.embedded import EmbeddedBroker
from tests.deploy.observed.servers import free_port
from tests.support import eventually
from tests.support.fake_live_gateway import FakeGateway

READY_S = 90.0


class Service:
    """One service: start, kill, start again; the log goes on in one file."""

    def __init__(self, name: str, role: str, folder: Path, *options: str) -> None:
        self.name, self.role, self.admin_port = name, role, free_port()
        self.options = [*options, "--admin-port", str(self.admin_port), "--log", "json"]
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MBO_")}
        command = [sys.executable, "-m", f"services.{self.role}", *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environ)

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (
            f"{self.name} ended: {self.log.read_text(encoding='utf-8')[-1000:]}"
        )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL: what the kernel does when memory is short."""
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


class Pipeline:
    """Ingest of a simulated market, two workers, persist, a gateway."""

    def __init__(self, folder: Path, *, level: str = "info") -> None:
        self.folder = folder
        self.broker = EmbeddedBroker(folder / "broker", max_memory="512mb")
        common = self._common = ("--broker", self.broker.url, "--log-level", level)
        source = ("--source", "sim", "--speed", "1", "--instruments", "16", "--shards", "4")
        self.port = free_port()
        self.services = {
            service.name: service
            for service in (
                Service("ingest", "ingest", folder, *common, "--data", str(folder / "data"), *source),
                Service("book-0", "book", folder, *common),
                Service("book-1", "book", folder, *common),
                Service("persist", "persist", folder, *common, "--data", str(folder / "data")),
                Service("gateway", "gateway", folder, *common, "--port", str(self.port)),
            )
        }
        self.address = f"http://127.0.0.1:{self.port}"

    def add_live(self, gateway: FakeGateway) -> None:
        """A second feed, of a gateway that speaks Databento's protocol."""
        key = self.folder / "key"
        key.write_text(gateway.key, encoding="utf-8")
        self.services["live"] = Service(
            "live", "ingest", self.folder, *self._common, "--source", "live", "--dataset", gateway.dataset,
            "--gateway", gateway.address, "--key-file", str(key), "--data", str(self.folder / "live"),
        )  # fmt: skip

    def __getitem__(self, name: str) -> Service:
        return self.services[name]

    def start(self) -> None:
        """All of it until it is ready; or nothing, if that takes too long."""
        try:
            self.broker.start()
            for service in self.services.values():
                service.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def wait_ready(self) -> None:
        for service in self.services.values():
            eventually(service.ready, timeout_s=READY_S, every_s=0.1)

    def targets(self) -> dict[str, list[int]]:
        """Job of prometheus.yml → admin ports."""
        found: dict[str, list[int]] = {}
        for service in self.services.values():
            found.setdefault(f"mbo-{service.role}", []).append(service.admin_port)
        return found

    def kill_broker(self) -> None:
        assert self.broker.process is not None
        self.broker.process.kill()
        self.broker.process.wait()

    def close(self) -> None:
        for service in self.services.values():
            service.stop()
        self.broker.stop()


class Client(threading.Thread):
    """Reads a stream of three channels until closed, comes back with its id when cut off."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.url = f"{address}/v1/stream?symbols=ALL_SYMBOLS&channels=book,bbo,trades&depth=10"
        self.events: dict[str, int] = {}
        self.last_id = ""
        self._answer: Any = None
        self._closed = threading.Event()

    def run(self) -> None:
        while not self._closed.is_set():
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            try:
                request = urllib.request.Request(self.url, headers=headers)
                with urllib.request.urlopen(request, timeout=30) as self._answer:
                    for raw in self._answer:
                        if self._closed.is_set():
                            return
                        self._take(raw.decode().rstrip("\n"))
            except (OSError, ValueError):
                self._closed.wait(0.2)

    def _take(self, line: str) -> None:
        if line.startswith("event: "):
            self.events[line[7:]] = self.events.get(line[7:], 0) + 1
        elif line.startswith("id: "):
            self.last_id = line[4:]

    def close(self) -> None:
        self._closed.set()
        self.join(35)
