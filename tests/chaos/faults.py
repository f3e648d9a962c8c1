"""The faults, each a method that does it and says what it was."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.brokers import Broker
from tests.chaos.processes import Process, owner_of, running, send
from tests.chaos.takeover import Watch

STOPPED_S = (0.3, 4.0)  # longer than a lease (2 s) at its longest
NETWORK_S = (0.2, 3.0)
MAX_EXTRA = 3  # workers beside the launcher's


class Faults:
    """Injects one random fault at a time into a running pipeline."""

    def __init__(self, launcher: int, broker: Broker, watch: Watch, rng: random.Random, log: Path) -> None:
        self.launcher, self.broker, self.watch, self.rng = launcher, broker, watch, rng
        self.counts: Counter[str] = Counter()
        self.extra: list[subprocess.Popen[bytes]] = []
        self._added = 0
        self._log = log.open("wb")
        self._kinds: tuple[tuple[int, Callable[[], str]], ...] = (
            (6, self.kill), (5, self.terminate), (6, self.stop_and_continue), (3, broker.kill), (3, broker.cut_aof),
            (2, broker.fail_over), (4, self.add_worker), (4, self.remove_worker), (4, self.cut_network),
        )  # fmt: skip

    def inject(self) -> None:
        weights = [weight for weight, _ in self._kinds]
        name = self.rng.choices([action for _, action in self._kinds], weights)[0]()
        if name:
            self.counts[name] += 1

    def _pick(self) -> Process | None:
        found = [p for p in running(self.launcher) if p.role != "broker"]
        found += [Process(p.pid, "extra-book") for p in self.extra if p.poll() is None]
        return self.rng.choice(found) if found else None

    def _end(self, target: Process | None, number: signal.Signals) -> str:
        if target is None:
            return ""
        if target.role.endswith("book"):
            self.watch.expect(owner_of(target.pid), number.name)
        return f"{number.name} {target.role}" if send(target.pid, number) else ""

    def kill(self) -> str:
        return self._end(self._pick(), signal.SIGKILL)

    def terminate(self) -> str:
        return self._end(self._pick(), signal.SIGTERM)

    def stop_and_continue(self) -> str:
        target = self._pick()
        if target is None or not send(target.pid, signal.SIGSTOP):
            return ""
        threading.Timer(self.rng.uniform(*STOPPED_S), send, (target.pid, signal.SIGCONT)).start()
        return f"SIGSTOP/CONT {target.role}"

    def add_worker(self) -> str:
        """One more book worker; half of them reach the broker through a network that is cut."""
        self.extra = [p for p in self.extra if p.poll() is None]
        if len(self.extra) >= MAX_EXTRA:
            return ""
        self._added += 1
        url = self.rng.choice((self.broker.url, self.broker.url_by_network))
        name = f"extra-{self._added}"
        command = [sys.executable, "-m", "services.book", "--broker", url, "--log", "json", "--owner", name]
        self.extra.append(subprocess.Popen(command, stderr=self._log, start_new_session=True))
        return "worker added"

    def remove_worker(self) -> str:
        alive = [p for p in self.extra if p.poll() is None]
        if not alive:
            return ""
        number = self.rng.choice((signal.SIGTERM, signal.SIGKILL))
        return "worker removed" if self._end(Process(self.rng.choice(alive).pid, "book"), number) else ""

    def cut_network(self) -> str:
        is_used = self.broker.url_by_network == self.broker.url or any(p.poll() is None for p in self.extra)
        if not is_used:
            return ""
        network = self.rng.choice(self.broker.networks)
        name, act = self.rng.choice((
            ("network cut", network.cut), ("replies lost", network.lose_replies),
            ("cut in mid-pipeline", lambda: network.break_after(self.rng.randrange(1, 50_000))),
        ))  # fmt: skip
        act()
        threading.Timer(self.rng.uniform(*NETWORK_S), network.heal).start()
        return name

    def end(self) -> None:
        """Leave nothing stopped, cut or running."""
        for network in self.broker.networks:
            network.heal()
        for process in running(self.launcher):
            send(process.pid, signal.SIGCONT)
        for worker in self.extra:
            if worker.poll() is None:
                send(worker.pid, signal.SIGCONT)
                worker.terminate()
                worker.wait(20)
        self._log.close()
