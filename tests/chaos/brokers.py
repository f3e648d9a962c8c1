"""The two brokers that chaos runs on: the launcher's own, and a primary with a replica behind one address."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Protocol

from tests.chaos.processes import running, send
from tests.support.aof import cut_log
from tests.support.replica import Pair

AOF_CUT_BYTES = 200_000  # at most so much of the newest AOF file is cut off
REPLICA_LAG_S = 1.0  # at most so long the replica has not followed when it takes over


class Broker(Protocol):
    """What can be done to a broker; each names what it did, "" if it could not."""

    url: str

    def kill(self) -> str: ...
    def cut_aof(self) -> str: ...
    def fail_over(self) -> str: ...


class Embedded:
    """The server that `mbo up` started: its launcher starts it again."""

    def __init__(self, launcher: int, data: Path, rng: random.Random) -> None:
        self.launcher, self.data, self.rng = launcher, data, rng
        self.url = f"unix://{data}/broker/broker.sock"

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
        self.url = pair.url

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
