"""One broker server of a test's own, in a folder: killed, restarted, restarted with less than it had."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import redis

from shared.embedded import die_with_parent, server_binary
from tests.support import eventually

BUS_OFFSET = 10_000
PORTS = range(
    10_000, 20_000
)  # below those of outgoing connections: a node that is restarted finds its own free again


def free_port() -> int:
    """A free port whose cluster-bus port (+10000) is free as well."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as client, socket.socket() as bus, contextlib.suppress(OSError):
            client.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + BUS_OFFSET))
            return port


def cut_log(folder: Path, size: int) -> bool:
    """Cut at most `size` bytes off the newest AOF file of a server that is down, as a power loss may; False if none."""
    files = sorted((folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    if not files:
        return False
    has = files[-1].stat().st_size
    os.truncate(files[-1], has - min(has, size))
    return True


class Node:
    """A server with a unix socket for clients and a port for other servers; `options` are those of every start."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.port, self.options = folder, free_port(), options
        self.socket = folder / "s"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, wait: bool = True) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with resources.as_file(resources.files("shared").joinpath("broker.conf")) as config:
            command = [
                server_binary(), str(config), "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
                str(self.folder), "--unixsocket", str(self.socket), "--logfile",
                str(self.folder / "log"), *self.options, *options,
            ]  # fmt: skip
            self.process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
            )
            if wait:
                eventually(self.answers, timeout_s=60)

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket))

    def call(self, *words: str | int | bytes) -> Any:
        """The reply to a command that redis-py has no method for."""
        return self.client().execute_command(*words)  # type: ignore[no-untyped-call]

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

    def restart(self, cut_bytes: int = 0) -> None:
        """SIGKILL, then start on what is there, without the last bytes of the log if so wanted."""
        self.kill()
        if cut_bytes:
            cut_log(self.folder, cut_bytes)
        self.start()
