"""A primary and its replica behind one address, a proxy: what a managed broker does at a fail-over."""

from __future__ import annotations

import shutil
import subprocess
import time
from importlib import resources
from pathlib import Path

import redis

from shared.embedded import die_with_parent, server_binary
from tests.support import eventually
from tests.support.aof import cut_log
from tests.support.cluster import free_port
from tests.support.proxy import Proxy


class Node:
    """One server in a folder of its own: a unix socket for clients, a port for replication."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.socket = folder / "s"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, primary: Node | None = None, *options: str, wait: bool = True) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replica = ["--replicaof", f"127.0.0.1 {primary.port}"] if primary else []
        with resources.as_file(resources.files("shared").joinpath("broker.conf")) as config:
            command = [
                server_binary(), str(config), "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
                str(self.folder), "--unixsocket", str(self.socket), "--repl-diskless-sync-delay", "0", *replica,
                *options,
            ]  # fmt: skip
            self.process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
            )
            if wait:
                eventually(self.answers, timeout_s=60)

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket))

    def answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.socket.unlink(missing_ok=True)


class Pair:
    """Context manager; `url` stays the same whoever is the primary. Nothing here waits for replication: it may lag."""

    def __init__(self, folder: Path) -> None:
        self.primary, self.replica = Node(folder / "a"), Node(folder / "b")
        folder.mkdir(parents=True, exist_ok=True)
        self.proxy = Proxy(folder / "p", self.primary.socket)
        self.url = self.proxy.url

    def __enter__(self) -> Pair:
        self.primary.start()
        self.replica.start(self.primary)
        self.wait_linked()
        return self

    def is_linked(self) -> bool:
        return self.replica.client().info("replication").get("master_link_status") == "up"

    def wait_linked(self) -> None:
        eventually(self.is_linked, timeout_s=60)

    def restart(self, cut_bytes: int = 0) -> None:
        """SIGKILL the primary and start it again, without the last bytes of its log if so wanted."""
        self.proxy.cut()
        self.primary.kill()
        if cut_bytes:
            cut_log(self.primary.folder, cut_bytes)
        self.primary.start()
        self.proxy.heal()

    def fail_over(self, lag_s: float = 0.0) -> None:
        """The replica stops following; `lag_s` later the primary dies with what it took since; the replica leads."""
        self.replica.client().execute_command("REPLICAOF", "NO", "ONE")
        time.sleep(lag_s)
        self.proxy.switch(self.replica.socket)
        self.primary.kill()
        self.proxy.heal()
        self.primary, self.replica = self.replica, self.primary
        shutil.rmtree(self.replica.folder)
        self.replica.start(self.primary)

    def __exit__(self, *_: object) -> None:
        self.proxy.close()
        for node in (self.primary, self.replica):
            node.kill()
