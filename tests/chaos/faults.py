"""The faults, each a method that does it and says what it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.chaos.processes import Process, running, send
from tests.chaos.proxy import Proxy

AOF_CUT_BYTES = 200_000  # at most so much of the newest AOF file is cut off
STOPPED_S = (0.3, 4.0)  # longer than a lease (2 s) at its longest
NETWORK_S = (0.2, 3.0)


class Faults:
    """Injects one random fault at a time into a running pipeline."""

    def __init__(self, launcher: int, data: Path, rng: random.Random, work: Path) -> None:
        self.launcher, self.data, self.rng, self.work = launcher, data, rng, work
        self.counts: Counter[str] = Counter()
        self.extra: list[subprocess.Popen[bytes]] = []
        self._log = (work / "extra-workers.log").open("wb")
        self.proxy = Proxy(work / "proxy.sock", data / "broker" / "broker.sock")
        self._kinds = (
            (6, self.kill), (4, self.terminate), (4, self.stop_and_continue), (2, self.kill_broker),
            (2, self.cut_aof), (3, self.add_worker), (3, self.remove_worker), (3, self.cut_network),
        )  # fmt: skip

    def inject(self) -> None:
        weights = [weight for weight, _ in self._kinds]
        name = self.rng.choices([action for _, action in self._kinds], weights)[0]()
        if name:
            self.counts[name] += 1

    def _pick(self, *, broker: bool = False) -> Process | None:
        found = [p for p in running(self.launcher) if (p.role == "broker") == broker]
        found += [] if broker else [Process(p.pid, "extra-book") for p in self.extra if p.poll() is None]
        return self.rng.choice(found) if found else None

    def kill(self) -> str:
        target = self._pick()
        return f"SIGKILL {target.role}" if target and send(target.pid, signal.SIGKILL) else ""

    def terminate(self) -> str:
        target = self._pick()
        return f"SIGTERM {target.role}" if target and send(target.pid, signal.SIGTERM) else ""

    def stop_and_continue(self) -> str:
        target = self._pick()
        if target is None or not send(target.pid, signal.SIGSTOP):
            return ""
        threading.Timer(self.rng.uniform(*STOPPED_S), send, (target.pid, signal.SIGCONT)).start()
        return f"SIGSTOP/CONT {target.role}"

    def kill_broker(self) -> str:
        target = self._pick(broker=True)
        return "SIGKILL broker" if target and send(target.pid, signal.SIGKILL) else ""

    def cut_aof(self) -> str:
        """The broker dies and comes back without the last bytes of its newest AOF file, as after a power loss."""
        target = self._pick(broker=True)
        if target is None or not send(self.launcher, signal.SIGSTOP):
            return ""
        try:
            send(target.pid, signal.SIGKILL)
            while Path(f"/proc/{target.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                time.sleep(0.005)
            files = sorted(
                (self.data / "broker" / "appendonlydir").glob("*.incr.aof"), key=lambda p: p.stat().st_mtime
            )
            if not files:
                return "SIGKILL broker"
            size = files[-1].stat().st_size
            os.truncate(files[-1], size - self.rng.randrange(0, min(size, AOF_CUT_BYTES) + 1))
            return "AOF cut"
        finally:
            send(self.launcher, signal.SIGCONT)

    def add_worker(self) -> str:
        """One more book worker; half of them reach the broker through the proxy."""
        self.extra = [p for p in self.extra if p.poll() is None]
        if len(self.extra) >= 3:
            return ""
        url = self.proxy.url if self.rng.random() < 0.5 else f"unix://{self.data}/broker/broker.sock"
        command = [sys.executable, "-m", "services.book", "--broker", url, "--log", "json"]
        self.extra.append(subprocess.Popen(command, stderr=self._log, start_new_session=True))
        return "worker added"

    def remove_worker(self) -> str:
        alive = [p for p in self.extra if p.poll() is None]
        if not alive:
            return ""
        target = self.rng.choice(alive)
        send(target.pid, self.rng.choice((signal.SIGTERM, signal.SIGKILL)))
        return "worker removed"

    def cut_network(self) -> str:
        if not any(p.poll() is None for p in self.extra):
            return ""
        self.proxy.cut()
        threading.Timer(self.rng.uniform(*NETWORK_S), self.proxy.heal).start()
        return "network cut"

    def end(self) -> None:
        """Leave nothing stopped, cut or running."""
        self.proxy.heal()
        for process in running(self.launcher):
            send(process.pid, signal.SIGCONT)
        for worker in self.extra:
            if worker.poll() is None:
                send(worker.pid, signal.SIGCONT)
                worker.terminate()
                worker.wait(20)
        self.proxy.close()
        self._log.close()
