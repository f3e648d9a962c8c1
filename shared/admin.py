"""The admin port of a service: whether it lives and is ready, its metrics; and how `--check` asks for them."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shared import metrics
from shared.errors import UsageError
from shared.settings import ServiceSettings

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
                if self.headers.get("Origin"):  # a browser's: no web page stops a service of this machine
                    self._json(403, {"error": "not for web pages"})
                    return
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


def admin_open(request: Any, timeout_s: float) -> Any:
    """`urlopen` of an admin port: never by way of the HTTP_PROXY that Docker hands to containers."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s)


def check(settings: ServiceSettings) -> int:
    """`--check`: ask this machine's running service (its admin port must be set) and exit by its readiness."""
    if not settings.admin_port:
        raise UsageError("--check needs the service's --admin-port (MBO_ADMIN_PORT)")
    host = "127.0.0.1" if settings.admin_host in ("0.0.0.0", "::", "") else settings.admin_host  # noqa: S104
    try:
        with admin_open(f"http://{host}:{settings.admin_port}/readyz", CHECK_TIMEOUT_S) as answer:
            print(answer.read().decode())  # noqa: T201
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode())  # noqa: T201
        return 1
    except OSError as error:
        print(f"not answering on {host}:{settings.admin_port}: {error}")  # noqa: T201
        return 1
