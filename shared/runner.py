"""One process, one service: signals, the admin port, the loop, drain and close.

A service is crash-only: start-up and recovery are the same path. The loop calls `start`, then `step` until a stop is
asked for; a recoverable error drops the service's state (`reset`) and starts it again with backoff.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from shared import logs, metrics
from shared.admin import AdminServer, Health, check
from shared.embedded import die_with_parent
from shared.errors import BrokerFull, BrokerLost, MboError
from shared.registration import Registration
from shared.scheduling import exact_timers, keep_memory, short_slices
from shared.settings import ServiceSettings, load

S = TypeVar("S", bound=ServiceSettings)

BACKOFF_FIRST_S = 0.05
BACKOFF_MOST_S = 2.0
INTERNAL_ERROR = 70  # exit status (EX_SOFTWARE): worth a restart, unlike 1 and 2


class Service(Protocol):
    """What the runner needs of a service. `step` is one bounded pass of its loop and blocks at most ~200 ms."""

    role: str

    def start(self) -> None:
        """Reach the broker, recover, be ready; raises MboError."""

    def step(self) -> bool:
        """One pass; False when all work is done and the process may end with status 0."""

    def facts(self) -> dict[str, Any]:
        """Fields for /readyz and `mbo status`."""

    def reset(self) -> None:
        """Drop all state after a recoverable error; `start` comes next."""

    def drain(self) -> None:
        """A stop was asked for: finish accepted work, release what is owned. Bounded to a few seconds."""

    def close(self) -> None:
        """Release files and connections; safe after any failure."""


class StopFlag:
    """Set by SIGTERM and SIGINT; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.interrupts = False  # a signal raises KeyboardInterrupt too

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.event.is_set() and number == signal.SIGINT:
            os._exit(130)
        self.event.set()
        if self.interrupts:
            raise KeyboardInterrupt

    @property
    def asked(self) -> bool:
        return self.event.is_set()


def serve(service: Service, settings: ServiceSettings, stop: StopFlag) -> int:
    """Run a service until it is done or a stop is asked for; the exit status."""
    log = logs.get(service.role)
    errors = metrics.get("mbo_service_errors_total")
    restarts = metrics.get("mbo_service_restarts_total")
    for prefix in ("mbo_service_", "mbo_broker_"):
        metrics.zero(prefix, role=service.role)
    health = Health(service.role)
    health.facts = service.facts
    admin = AdminServer(settings.admin_host, settings.admin_port, health)
    # POST actions of its own, such as the gateway's /drain.
    admin.routes.update(getattr(service, "admin_routes", {}))
    registration = Registration(settings, service.role, admin.address, service.facts)
    log.info("started", pid=os.getpid(), admin=admin.address)
    backoff = BACKOFF_FIRST_S
    status = 0
    try:
        more = True
        while more and not stop.asked:
            try:
                service.start()
                gc.collect()
                gc.freeze()  # what start-up left (numba's most of all) is never garbage: no collection walks it again
                health.set(True)
                while more and not stop.asked:
                    more = service.step()
                    backoff = BACKOFF_FIRST_S
            except MboError as error:
                errors.labels(service.role, type(error).__name__).inc()
                health.set(False, str(error))
                if not error.recoverable:
                    raise
                restarts.labels(service.role, type(error).__name__).inc()
                log.limited("restarting", reason=type(error).__name__, detail=str(error), facts=error.facts)
                service.reset()
                if isinstance(error, BrokerLost | BrokerFull):
                    stop.event.wait(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                    backoff = min(backoff * 2, BACKOFF_MOST_S)
        health.set(False, "draining")
        if stop.asked:
            try:
                service.drain()
            except MboError as error:
                if not error.recoverable:
                    raise
                log.warning("drain not complete", detail=str(error))  # what is owned runs out by itself
    except MboError as error:
        log.error("failed", detail=str(error), **error.facts)
        status = error.exit_status
    except Exception as error:  # noqa: BLE001 - a fault of ours: say where, let the launcher start us again
        errors.labels(service.role, "internal").inc()
        log.error("internal error", detail=repr(error), trace=traceback.format_exc())
        status = INTERNAL_ERROR
    finally:
        service.close()
        registration.close()
        admin.close()
        log.info("stopped", status=status)
    return status


def service_main(
    prog: str,
    about: str,
    cls: type[S],
    make: Callable[[S], Service],
    argv: Sequence[str] | None = None,
) -> int:
    """`main` of a service process; `--check` ends before `make`, which imports the service.

    A health check every few seconds must not pay for the imports of an engine.
    """

    def main() -> int:
        given = sys.argv[1:] if argv is None else argv
        config, flags = load(cls, given, os.environ, prog=prog, description=about)
        return check(config) if flags.check else run(make, config)

    return guarded(main)


def run(make: Callable[[S], Service], settings: S) -> int:
    """Logs, signals, then `serve`."""
    role = os.environ.get("MBO_SERVICE", "")
    stop = StopFlag()
    stop.install()
    if os.environ.get("MBO_HELPER"):  # started by the launcher: end with it
        die_with_parent()
        if os.getppid() == 1:
            return 1
    short_slices()
    exact_timers()
    keep_memory()
    try:
        stop.interrupts = True  # a source may download for hours before there is a loop that heeds the flag
        service = make(settings)
        stop.interrupts = False
    except KeyboardInterrupt:
        return 0
    logs.setup(settings.log, settings.log_level, service=role or service.role, pid=os.getpid())
    return serve(service, settings, stop)


def guarded(main: Callable[[], int]) -> int:
    """Run a command: an MboError becomes one line on stderr and its exit status, Ctrl-C becomes 130."""
    try:
        return main()
    except MboError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
