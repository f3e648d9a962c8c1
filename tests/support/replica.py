"""A primary and its replica behind one address, a proxy: what a managed broker does at a fail-over."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.support import eventually
from tests.support.node import Node
from tests.support.proxy import Proxy

NO_WAIT = ("--repl-diskless-sync-delay", "0")  # a replica is sent the data at once


class Pair:
    """Context manager; `url` stays the same whoever is the primary. Nothing here waits for replication: it may lag."""

    def __init__(self, folder: Path) -> None:
        self.primary, self.replica = Node(folder / "a", *NO_WAIT), Node(folder / "b", *NO_WAIT)
        folder.mkdir(parents=True, exist_ok=True)
        self.proxy = Proxy(self.primary.socket, listen=folder / "p")
        self.url = self.proxy.url

    def __enter__(self) -> Pair:
        self.primary.start()
        self._follow()
        self.wait_linked()
        return self

    def _follow(self) -> None:
        self.replica.start("--replicaof", f"127.0.0.1 {self.primary.port}")

    def is_linked(self) -> bool:
        return self.replica.client().info("replication").get("master_link_status") == "up"

    def wait_linked(self) -> None:
        eventually(self.is_linked, timeout_s=60)

    def has(self, key: str) -> bool:
        return True

    def restart(self, cut_bytes: int = 0) -> None:
        """SIGKILL the primary and start it again, without the last bytes of its log if so wanted."""
        self.proxy.cut()
        self.primary.restart(cut_bytes)
        self.proxy.heal()

    def fail_over(self, lag_s: float = 0.0) -> None:
        """The replica stops following; `lag_s` later the primary dies with what it took since; the replica leads."""
        self.replica.call("REPLICAOF", "NO", "ONE")
        time.sleep(lag_s)
        self.proxy.switch(self.replica.socket)
        self.primary.kill()
        self.proxy.heal()
        self.primary, self.replica = self.replica, self.primary
        shutil.rmtree(self.replica.folder)
        self._follow()

    def __exit__(self, *_: object) -> None:
        self.proxy.close()
        for node in (self.primary, self.replica):
            node.kill()
