"""The brokers that chaos runs on: the launcher's own, a primary with a replica behind one address, a cluster."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Protocol

from tests.chaos.processes import running, send
from tests.support.cluster import NODES, Cluster
from tests.support.node import cut_log
from tests.support.proxy import Proxy
from tests.support.replica import Pair

AOF_CUT_BYTES = 200_000  # at most so much of the newest AOF file is cut off
REPLICA_LAG_S = 1.0  # at most so long the replica has not followed when it takes over


class Broker(Protocol):
    """What can be done to a broker; each names what it did, "" if it could not.

    `networks` are what of it can be cut; who uses `url_by_network` is behind them.
    """

    url: str
    url_by_network: str
    networks: list[Proxy]

    def kill(self) -> str: ...
    def cut_aof(self) -> str: ...
    def fail_over(self) -> str: ...


class Embedded:
    """The server that `mbo up` started: its launcher starts it again."""

    def __init__(self, launcher: int, data: Path, proxy: Proxy, rng: random.Random) -> None:
        self.launcher, self.data, self.rng = launcher, data, rng
        self.url, self.url_by_network, self.networks = f"unix://{proxy.target}", proxy.url, [proxy]

    def _pid(self) -> int | None:
        return next((p.pid for p in running(self.launcher) if p.role == "broker"), None)

    def kill(self) -> str:
        pid = self._pid()
        return "SIGKILL broker" if pid and send(pid, signal.SIGKILL) else ""

    def cut_aof(self) -> str:
        """The broker dies and comes back without the last bytes of its newest AOF file, as after a power loss."""
        pid = self._pid()
        if pid is None or not send(self.launcher, signal.SIGSTOP):
            return ""
        try:
            send(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                time.sleep(0.005)
            cut = cut_log(self.data / "broker", self.rng.randrange(1, AOF_CUT_BYTES))
            return "AOF cut" if cut else "SIGKILL broker"
        finally:
            send(self.launcher, signal.SIGCONT)

    def fail_over(self) -> str:
        return ""


class Replicated:
    """A primary and a replica of the test's own."""

    def __init__(self, pair: Pair, rng: random.Random) -> None:
        self.pair, self.rng = pair, rng
        self.url = self.url_by_network = pair.url
        self.networks = [pair.proxy]

    def kill(self) -> str:
        self.pair.restart()
        return "SIGKILL broker"

    def cut_aof(self) -> str:
        self.pair.restart(self.rng.randrange(1, AOF_CUT_BYTES))
        return "AOF cut"

    def fail_over(self) -> str:
        if not self.pair.is_linked():
            return ""
        self.pair.fail_over(self.rng.uniform(0, REPLICA_LAG_S))
        return "fail-over to a replica"


class Clustered:
    """A cluster of three nodes, one of them with a replica; each fault strikes one node."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster, self.rng = cluster, rng
        self.url = self.url_by_network = cluster.url
        self.networks = cluster.proxies

    def _restart(self, cut_bytes: int = 0) -> None:
        self.cluster.aim(self.rng.randrange(len(self.cluster.nodes)))
        self.cluster.restart(cut_bytes)

    def kill(self) -> str:
        self._restart()
        return "SIGKILL broker"

    def cut_aof(self) -> str:
        self._restart(self.rng.randrange(1, AOF_CUT_BYTES))
        return "AOF cut"

    def fail_over(self) -> str:
        follower = self.cluster.nodes[0 if self.cluster.led_by_spare else NODES]
        if not self.cluster.follows(follower):
            return ""
        if self.rng.random() < 0.5:
            self.cluster.hand_over()
            return "slots handed to a replica"
        self.cluster.fail_over()
        return "fail-over to a replica"
