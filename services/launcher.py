"""Run the services as child processes: start in order, watch, restart with backoff, stop in order.

Children are in process groups of their own, so that Ctrl-C reaches only the launcher and everything stops in the
order of the data: ingest, book, persist, gateway, broker. The kernel ends them if the launcher is killed.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from shared import logs
from shared.embedded import EmbeddedBroker
from shared.errors import BrokerError
from shared.runner import INTERNAL_ERROR, StopFlag
from shared.scheduling import bind
from shared.settings import ServiceSettings, environment_of

log = logs.get("launcher")

BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 5.0
STABLE_S = 10.0  # a child that lived so long starts with the first backoff again
STOP_S = {"ingest": 5.0, "book": 5.0, "persist": 20.0, "gateway": 8.0}
STOP_ORDER = ("ingest", "book", "persist", "gateway")
POLL_S = 0.05
BROKER_TRIES = 5  # starts in a row; it may be killed while it starts, but a log that cannot be read stays so


@dataclasses.dataclass
class Child:
    """One service process and its restarts."""

    role: str
    name: str
    argv: list[str]
    settings: type[ServiceSettings] = ServiceSettings  # what it takes of the environment
    cpus: frozenset[int] = frozenset()  # it runs on these only; none: on any
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    backoff_s: float = BACKOFF_FIRST_S
    restarts: int = 0

    def start(self) -> None:
        env = environment_of(self.settings, os.environ)
        env |= {"MBO_HELPER": str(os.getpid()), "MBO_SERVICE": self.name}
        command = [sys.executable, "-m", f"services.{self.role}", *self.argv]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=env, start_new_session=True)
        bind(self.process.pid, self.cpus)
        self.started_at = time.monotonic()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Launcher:
    """Owns the children and, if embedded, the broker."""

    def __init__(self, broker: EmbeddedBroker | None, children: Sequence[Child]) -> None:
        self.broker, self.children = broker, list(children)
        self._broker_failures = 0

    def start(self) -> None:
        for child in self.children:
            child.start()
            log.debug("child started", child=child.name, pid=child.process.pid if child.process else None)

    def run(self, stop: StopFlag, done: Callable[[], bool]) -> int:
        """Watch until a stop is asked for, `done` says so, or a child fails for good; the exit status."""
        while not stop.asked:
            self._watch_broker()
            for child in self.children:
                status = self._watch(child)
                if status is not None:
                    log.error("stopping: a service failed", child=child.name, status=status)
                    return status
            if done():
                return 0
            stop.event.wait(POLL_S)
        return 0

    def _watch_broker(self) -> None:
        if self.broker is None or self.broker.alive:
            return
        log.warning("broker died: starting it again")
        try:
            self.broker.start()
            self._broker_failures = 0
        except BrokerError as error:
            self._broker_failures += 1
            if self._broker_failures >= BROKER_TRIES:
                raise
            log.warning("broker did not start: trying again", detail=str(error), tries=self._broker_failures)

    def _watch(self, child: Child) -> int | None:
        """Restart a dead child when its time has come; an exit status if restarting cannot help."""
        if child.alive:
            return None
        assert child.process is not None
        now = time.monotonic()
        if child.start_at == 0.0:
            status = child.process.returncode
            if status in (1, 2):
                return status
            if now - child.started_at > STABLE_S:
                child.backoff_s = BACKOFF_FIRST_S
            child.start_at = now + child.backoff_s
            child.backoff_s = min(child.backoff_s * 2, BACKOFF_MOST_S)
            why = "internal error" if status == INTERNAL_ERROR else _signal_name(status)
            log.warning("child ended", child=child.name, status=status, why=why)
        elif now >= child.start_at:
            child.start_at = 0.0
            child.restarts += 1
            child.start()
            log.info("child restarted", child=child.name, restarts=child.restarts)
        return None

    def stop(self) -> None:
        """Stop everything in the order of the data; nothing is left behind."""
        for role in STOP_ORDER:
            group = [child for child in self.children if child.role == role and child.alive]
            for child in group:
                assert child.process is not None
                child.process.send_signal(signal.SIGCONT)
                child.process.terminate()
            deadline = time.monotonic() + STOP_S[role]
            for child in group:
                assert child.process is not None
                try:
                    child.process.wait(max(deadline - time.monotonic(), 0.1))
                except subprocess.TimeoutExpired:
                    log.warning("child did not stop: killed", child=child.name)
                    child.process.kill()
                    child.process.wait()
        if self.broker is not None:
            self.broker.stop()


def _signal_name(status: int) -> str:
    try:
        return signal.Signals(-status).name if status < 0 else f"status {status}"
    except ValueError:
        return f"status {status}"
