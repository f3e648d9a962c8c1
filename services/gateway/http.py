"""The HTTP side: uvicorn with uvloop in a thread of its own, the hub's tasks beside it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvicorn
import uvloop

from services.gateway.guard import protocol_class
from services.gateway.settings import GatewaySettings
from shared import logs
from shared.errors import UsageError

log = logs.get("gateway")
T = TypeVar("T")

BACKLOG = 4096
KEEP_ALIVE_S = 15
START_WITHIN_S = 15.0
MOST_FILES = 1_048_576
OTHER_FILES = 64  # of the process: broker, recall, the page


def within_files(settings: GatewaySettings) -> GatewaySettings:
    """The settings with no more connections and streams than this process may open files.

    Past its files a process accepts and drops: nothing is counted, and no alert compares with the true limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return settings
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < most:
        soft = most
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(soft - OTHER_FILES, 1)
    if settings.max_connections <= room:
        return settings
    streams = min(settings.max_streams, max(room - OTHER_FILES, 1))
    if streams < settings.max_streams:
        log.warning("fewer streams than set", files=soft, set=settings.max_streams, streams=streams)
    return dataclasses.replace(settings, max_connections=room, max_streams=streams)


class Http:
    """A server thread: `start` binds and serves, `submit` runs a coroutine on its loop, `stop` ends it."""

    def __init__(
        self, settings: GatewaySettings, app: Any, tasks: Callable[[], list[Coroutine[Any, Any, None]]]
    ) -> None:
        self.settings = settings
        self._app, self._tasks = app, tasks
        self._thread: threading.Thread | None = None
        self._serving = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.failure: BaseException | None = None
        self._server: uvicorn.Server | None = None
        self.socket = self._bind()
        self.address = self._address()

    def _address(self) -> str:
        host, port = self.socket.getsockname()[:2]
        scheme = "https" if self.settings.tls_cert_file else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def connections(self) -> int:
        """Open connections of any kind."""
        return len(self._server.server_state.connections) if self._server is not None else 0

    def _bind(self) -> socket.socket:
        settings = self.settings
        sock = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise UsageError(
                f"port {settings.host}:{settings.port}: {error.strerror}; "
                "choose another with --port (0 takes a free one)"
            ) from error
        return sock

    def _config(self) -> tuple[uvicorn.Config, Any]:
        settings = self.settings
        protocol, sweeper = protocol_class(settings)
        config = uvicorn.Config(
            self._app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=",".join(settings.trusted_proxies) or None,
            ssl_certfile=settings.tls_cert_file or None,
            ssl_keyfile=settings.tls_key_file or None,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"TLS: {settings.tls_cert_file} and {settings.tls_key_file}: {error}") from error
        return config, sweeper

    @staticmethod
    def _forward_logs() -> None:
        """What uvicorn says goes to our log, limited: bad requests of strangers must not fill it."""
        logger = logging.getLogger("uvicorn.error")
        if not any(isinstance(handler, _Forward) for handler in logger.handlers):
            logger.addHandler(_Forward(logging.WARNING))
        logger.propagate = False

    def start(self) -> None:
        """Serve; returns when connections are accepted."""
        self._forward_logs()
        config, sweeper = self._config()
        self._thread = threading.Thread(target=self._run, args=(config, sweeper), name="http", daemon=True)
        self._thread.start()
        if not self._serving.wait(START_WITHIN_S) or self.failure is not None:
            raise UsageError(f"the HTTP server did not start: {self.failure}")

    def _run(self, config: uvicorn.Config, sweeper: Any) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(config, sweeper))
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            self.failure = error
            log.error("http ended", error=f"{type(error).__name__}: {error}")
        finally:
            self._serving.set()

    async def _serve(self, config: uvicorn.Config, sweeper: Any) -> None:
        self.loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(each) for each in (sweeper.run(), *self._tasks())]
        for task in tasks:
            task.add_done_callback(self._ended)
        self._server = server = _Server(config, self._serving.set)
        try:
            await server.serve(sockets=[self.socket])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A background task never ends by itself: its error ends the process."""
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.error("task failed", error=f"{type(self.failure).__name__}: {self.failure}")

    def submit(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run on the loop from another thread; RuntimeError if it does not serve yet, or any more."""
        if self.loop is None or self.loop.is_closed():
            coroutine.close()
            raise RuntimeError("the HTTP side does not serve")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def stop(self) -> None:
        """Close listeners and connections; safe to call twice."""
        if self._server is not None and self.loop is not None and not self.loop.is_closed():
            self._server.should_exit = self._server.force_exit = True
        if self._thread is not None:
            self._thread.join(5.0)
        with contextlib.suppress(OSError):
            self.socket.close()


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = f"{type(error).__name__}: {error}" if error is not None else ""
        log.limited("http", detail=record.getMessage().splitlines()[0], error=text)


class _Server(uvicorn.Server):
    """Tells when it accepts; signals belong to the runner."""

    def __init__(self, config: uvicorn.Config, serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._serving = serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._serving()

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield
