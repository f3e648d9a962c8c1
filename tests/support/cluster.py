"""A three-node cluster of the embedded server on loopback ports."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
from pathlib import Path

import redis

from shared.embedded import die_with_parent, server_binary
from tests.support import eventually
from tests.support.aof import cut_log

SLOTS = 16384
BUS_OFFSET = 10_000


def free_port() -> int:
    """A free port whose cluster-bus port (+10000) is free as well.

    Both are below the ports that outgoing connections get: a node that is restarted must find its own free again.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, first_outgoing - BUS_OFFSET)
        with socket.socket() as client, socket.socket() as bus, contextlib.suppress(OSError):
            client.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + BUS_OFFSET))
            return port


class Cluster:
    """Context manager; `url` is one node's, the others are discovered."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.folder, self.ports = folder, [free_port() for _ in range(nodes)]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.url = f"redis://127.0.0.1:{self.ports[0]}/0"

    def start_node(self, index: int) -> subprocess.Popen[bytes]:
        port = self.ports[index]
        home = self.folder / str(port)
        home.mkdir(parents=True, exist_ok=True)
        command = [
            server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--dir", str(home),
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--cluster-node-timeout", "2000",
            "--maxmemory", "1gb", "--maxmemory-policy", "noeviction", "--auto-aof-rewrite-percentage", "0",
        ]  # fmt: skip
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
        )

    def client(self, index: int) -> redis.Redis:
        return redis.Redis(port=self.ports[index])

    def __enter__(self) -> Cluster:
        self.processes = [self.start_node(index) for index in range(len(self.ports))]
        for index in range(len(self.ports)):
            eventually(lambda index=index: self._answers(index))
        share = SLOTS // len(self.ports)
        for index in range(len(self.ports)):
            last = SLOTS - 1 if index == len(self.ports) - 1 else (index + 1) * share - 1
            self.client(index).execute_command("CLUSTER", "ADDSLOTSRANGE", index * share, last)
            self.client(0).execute_command("CLUSTER", "MEET", "127.0.0.1", self.ports[index])
        for index in range(len(self.ports)):
            eventually(lambda index=index: self._is_whole(index), timeout_s=60)
        return self

    def _answers(self, index: int) -> bool:
        try:
            return bool(self.client(index).ping())
        except redis.RedisError:
            return False

    def _is_whole(self, index: int) -> bool:
        try:
            said = self.client(index).execute_command("CLUSTER", "INFO")
        except redis.RedisError:
            return False
        text = (
            said
            if isinstance(said, dict)
            else dict(line.split(":", 1) for line in bytes(said).decode().split("\r\n") if ":" in line)
        )
        return text["cluster_state"] == "ok" and int(text["cluster_known_nodes"]) == len(self.ports)

    def restart(self, index: int, cut_bytes: int = 0) -> None:
        """SIGKILL a node and start it again on its data, without the last bytes of its log if so wanted."""
        self.processes[index].kill()
        self.processes[index].wait()
        if cut_bytes:
            cut_log(self.folder / str(self.ports[index]), cut_bytes)
        self.processes[index] = self.start_node(index)

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
