"""Recorded data for clients: asked of a process of its own, so that replays and exports never disturb live.

The process (`recall_worker`) is started when first needed and listens on a private unix socket. A request is one
line of JSON; the answer is one line of JSON (status, media type) and then the body until the end. Bodies are relayed
with back-pressure: what a client does not read stays in the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.gateway.answers import blob_answer
from services.gateway.limits import Lease, Limits
from services.gateway.principal import Principal
from services.gateway.problems import MEDIA_TYPE, Problem, too_many, unavailable
from services.gateway.settings import GatewaySettings
from shared import logs, metrics
from shared.settings import hide_password

log = logs.get("gateway")

START_WITHIN_S = 20.0
RELAY_BYTES = 65_536
RECORDED_EVERY_S = 30.0
RECORDED_FIRST_S = 1.0  # until there is any, then ever longer: a demo has history after seconds
Job = dict[str, Any]


class Worker:
    """The process and its socket."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._directory = tempfile.mkdtemp(prefix="mbo-recall-")
        self.socket = str(Path(self._directory) / "socket")
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = asyncio.Lock()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; starts the process, or starts it again if it died. Problem 503 if it does not come up."""
        async with self._starting:
            if self._process is None or self._process.poll() is not None:
                await asyncio.to_thread(self._start)
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            try:
                return await asyncio.open_unix_connection(self.socket, limit=RELAY_BYTES)
            except OSError:
                if time.monotonic() > deadline:
                    raise unavailable(
                        "recall", "recorded data is not available: its process does not start; see the log", 5
                    ) from None
                await asyncio.sleep(0.02)

    def _start(self) -> None:
        Path(self.socket).unlink(missing_ok=True)
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway.recall_worker"], stdin=subprocess.PIPE, close_fds=True
        )
        config = {
            "socket": self.socket, "broker": self._settings.broker, "prefix": self._settings.prefix,
            "broker_password_file": self._settings.broker_password_file, "log": self._settings.log,
            "log_level": self._settings.log_level, "gateway": "recall",
        }  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps(config).encode() + b"\n"
        )  # not argv: the broker URL may hold a password
        self._process.stdin.flush()
        log.info("recall worker started", pid=self._process.pid, broker=hide_password(self._settings.broker))

    def stop(self) -> None:
        """Its stdin closes, which ends it; killed if it does not."""
        if self._process is not None and self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


class Answer:
    """Head and body of one answer of the worker."""

    def __init__(
        self, head: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.head, self._reader, self._writer = head, reader, writer

    async def parts(self) -> AsyncIterator[bytes]:
        try:
            while part := await self._reader.read(RELAY_BYTES):
                yield part
        finally:
            self.close()

    async def whole(self) -> bytes:
        return b"".join([part async for part in self.parts()])

    def close(self) -> None:
        self._writer.close()


class Recaller:
    """The gateway's side: leases, the worker, and how its answers become responses."""

    def __init__(self, settings: GatewaySettings, limits: Limits) -> None:
        self._limits = limits
        self._worker = Worker(settings)
        self._running = metrics.get("mbo_gateway_recalls")

    def lease(self, principal: Principal, ip: str) -> Lease:
        """Raises Problem 429 if there are too many at once."""
        lease = self._limits.recall(principal, ip)
        if lease is None:
            raise too_many("too many replays, exports or history requests at once: wait for one to end")
        return lease

    async def ask(self, job: Job) -> Answer:
        """Send a job; the answer's head is read, its body follows."""
        reader, writer = await self._worker.connect()
        try:
            writer.write(json.dumps(job).encode() + b"\n")
            line = await reader.readline()
            return Answer(json.loads(line), reader, writer)
        except BaseException as error:
            writer.close()
            if not isinstance(error, OSError | ValueError):
                raise  # whoever asked has gone
            log.error("recall worker broke off", error=f"{type(error).__name__}: {error}")
            raise unavailable("recall", "recorded data is not available now: try again", 2) from error

    async def json(self, request: Request, principal: Principal, job: Job) -> Response:
        """A JSON answer (or the worker's problem) as a response."""
        lease = self.lease(principal, request.client.host if request.client else "")
        self._running.inc()
        try:
            answer = await self.ask(job)
            blob = await answer.whole()
        finally:
            self._running.dec()
            lease.release()
        if answer.head["status"] != 200:
            return Response(
                blob,
                answer.head["status"],
                {"cache-control": "no-store", **answer.head.get("headers", {})},
                MEDIA_TYPE,
            )
        return blob_answer(request, blob, "application/json")

    async def file(self, request: Request, principal: Principal, job: Job) -> Response:
        """A download, streamed."""
        lease = self.lease(principal, request.client.host if request.client else "")
        try:
            answer = await self.ask(job)
            if answer.head["status"] != 200:
                blob = await answer.whole()
                lease.release()
                return Response(blob, answer.head["status"], {"cache-control": "no-store"}, MEDIA_TYPE)
        except BaseException:
            lease.release()
            raise
        if request.method == "HEAD":
            answer.close()
            lease.release()
            return StreamingResponse(iter(()), 200, answer.head["headers"], answer.head["media"])  # no length

        async def body() -> AsyncIterator[bytes]:
            self._running.inc()
            try:
                async for part in answer.parts():
                    yield part
            finally:
                self._running.dec()
                lease.release()

        return StreamingResponse(body(), 200, answer.head["headers"], answer.head["media"])

    async def stream(
        self, receive: Any, send: Any, job: Job, lease: Lease, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """A replay: the worker's SSE bytes as they come, until it ends or the client leaves."""
        self._running.inc()
        try:
            answer = await self.ask(job)
            if answer.head["status"] != 200:
                problem = [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store"), *headers]
                await send(
                    {"type": "http.response.start", "status": answer.head["status"], "headers": problem}
                )
                await send({"type": "http.response.body", "body": await answer.whole()})
                return
            gone = asyncio.ensure_future(_gone(receive))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                async for part in answer.parts():
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                gone.cancel()
                answer.close()
        finally:
            self._running.dec()
            lease.release()

    async def events(self, job: Job) -> bytes | None:
        """The body of a job's answer; None if there is none, which the worker has logged."""
        try:
            answer = await self.ask(job)
        except Problem:
            return None
        blob = await answer.whole()
        if answer.head["status"] != 200:
            log.limited("not in the recording", what=job["what"], detail=json.loads(blob)["detail"])
            return None
        return blob

    async def run(self, context: Any) -> None:
        """Refresh what /v1/instruments says of first and last times, while a history service is there."""
        pause = RECORDED_FIRST_S
        while True:
            with contextlib.suppress(Exception):
                if await asyncio.to_thread(context.history_advertised):
                    answer = await self.ask({"what": "recorded"})
                    rows = json.loads(await answer.whole())
                    if answer.head["status"] == 200:
                        context.recorded = {
                            (feed, number): (first, last) for feed, number, first, last in rows
                        }
            await asyncio.sleep(pause)
            if context.recorded:
                pause = min(1.5 * pause, RECORDED_EVERY_S)

    def close(self) -> None:
        self._worker.stop()


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
