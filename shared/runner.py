"""One process, one service: signals, the admin port, the loop, drain and close.

A service is crash-only: start-up and recovery are the same path. The loop calls `start`, then `step` until a stop is
asked for; a recoverable error drops the service's state (`reset`) and starts it again with backoff.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from shared import logs, metrics
from shared.broker import Broker
from shared.embedded import die_with_parent
from shared.errors import BrokerFull, BrokerLost, MboError, UsageError
from shared.scheduling import exact_timers, keep_memory, short_slices
from shared.settings import ServiceSettings

BACKOFF_FIRST_S = 0.05
BACKOFF_MOST_S = 2.0
REGISTER_S = 2.0
PROC_DEAD_S = 10.0
PROC_FORGET_S = 600.0
INTERNAL_ERROR = 70  # exit status (EX_SOFTWARE): worth a restart, unlike 1 and 2
CHECK_TIMEOUT_S = 3.0


class Health:
    """What /readyz says: ready or why not, and facts (data age, stale shards …) in its body."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.ready = False
        self.reason = "starting"
        self.facts: Callable[[], dict[str, Any]] = dict
        self._gauge = metrics.get("mbo_service_up").labels(role)

    def set(self, ready: bool, reason: str = "") -> None:
        self.ready, self.reason = ready, reason
        self._gauge.set(1 if ready else 0)

    def body(self) -> dict[str, Any]:
        return {"role": self.role, "ready": self.ready, "reason": self.reason, **self.facts()}


class AdminServer:
    """/healthz (the process lives), /readyz (200 or 503 with facts), /metrics; a daemon thread."""

    def __init__(self, host: str, port: int, health: Health) -> None:
        owner = self
        self.routes: dict[str, Callable[[], tuple[int, dict[str, Any]]]] = {}  # POST routes of the service

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, metrics.render(), "text/plain; version=0.0.4; charset=utf-8")
                elif self.path == "/healthz":
                    self._json(200, {"role": health.role, "alive": True})
                elif self.path == "/readyz":
                    self._json(200 if health.ready else 503, health.body())
                else:
                    self._json(404, {"error": "try /healthz, /readyz or /metrics"})

            def do_POST(self) -> None:
                route = owner.routes.get(self.path)
                self._json(*(route() if route else (404, {"error": "no such action"})))

            def _json(self, status: int, body: dict[str, Any]) -> None:
                self._answer(status, json.dumps(body, default=str).encode(), "application/json")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Probes are not logged."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise UsageError(
                f"admin port {host}:{port}: {error.strerror}; choose another with --admin-port"
            ) from error
        self._server.daemon_threads = True
        self.address = f"http://{host}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.5,), name="admin", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


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


class Registration:
    """Keeps this process's row in `{mbo}:procs` fresh: what `mbo status` and /v1/pipeline list."""

    def __init__(
        self, settings: ServiceSettings, role: str, admin: str, facts: Callable[[], dict[str, Any]]
    ) -> None:
        self._broker = Broker(
            settings.broker, settings.prefix, name=f"{role}-reg", password=password(settings)
        )
        self.id = proc_id(role)
        self._row = {
            "role": role,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "admin": admin,
            "started": time.time(),
        }
        self._facts = facts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)
        self._thread.start()

    def _forget_dead(self) -> None:
        """Rows of processes that were killed: they could not remove them."""
        rows = self._broker.hash(self._broker.keys.procs)
        dead = [key for key, text in rows.items() if time.time() - json.loads(text)["at"] > PROC_FORGET_S]
        if dead:
            self._broker.call("HDEL", self._broker.keys.procs, *dead)

    def _run(self) -> None:
        with contextlib.suppress(MboError):
            self._forget_dead()
        while not self._stop.is_set():
            try:
                row = {**self._row, "at": time.time(), "detail": self._facts()}
                self._broker.call("HSET", self._broker.keys.procs, self.id, json.dumps(row, default=str))
            except MboError:
                pass  # the service's own loop reports a lost broker
            except Exception as error:  # noqa: BLE001 - facts are read beside the loop that changes them
                logs.get(str(self._row["role"])).limited("facts not told", detail=repr(error))
            self._stop.wait(REGISTER_S)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(1.0)
        with contextlib.suppress(MboError):
            self._broker.call("HDEL", self._broker.keys.procs, self.id)
        self._broker.close()


def proc_id(role: str) -> str:
    return f"{role}-{socket.gethostname()}-{os.getpid()}"


def password(settings: ServiceSettings) -> str | None:
    """The broker's password from its file, if one is set; UsageError if it cannot be read."""
    if not settings.broker_password_file:
        return None
    try:
        with open(settings.broker_password_file, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise UsageError(f"broker password file {settings.broker_password_file}: {error.strerror}") from error


class StopFlag:
    """Set by SIGTERM and SIGINT; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.event.is_set() and number == signal.SIGINT:
            os._exit(130)
        self.event.set()

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


def run(make: Callable[[Any], Service], settings: ServiceSettings) -> int:
    """`main` of a service process: logs, signals, then `serve`."""
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
    service = make(settings)
    logs.setup(settings.log, settings.log_level, service=role or service.role, pid=os.getpid())
    return serve(service, settings, stop)


def check(settings: ServiceSettings) -> int:
    """`--check`: ask this machine's running service (its admin port must be set) and exit by its readiness."""
    import urllib.error
    import urllib.request

    if not settings.admin_port:
        raise UsageError("--check needs the service's --admin-port (MBO_ADMIN_PORT)")
    host = "127.0.0.1" if settings.admin_host in ("0.0.0.0", "::", "") else settings.admin_host  # noqa: S104
    try:
        with urllib.request.urlopen(
            f"http://{host}:{settings.admin_port}/readyz", timeout=CHECK_TIMEOUT_S
        ) as answer:
            print(answer.read().decode())  # noqa: T201
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode())  # noqa: T201
        return 1
    except OSError as error:
        print(f"not answering on {host}:{settings.admin_port}: {error}")  # noqa: T201
        return 1


def guarded(main: Callable[[], int]) -> int:
    """Run a command: an MboError becomes one line on stderr and its exit status, Ctrl-C becomes 130."""
    import sys

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
