"""The history API: the store's blocks, rows and images as JSON or as length-prefixed frames. Described in README.md."""

from __future__ import annotations

import hmac
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.persist.local import LocalHistory
from services.persist.store import UNDEF
from shared import logs
from shared.blocks import KIND_BBO, KIND_MBO
from shared.errors import StoreError
from shared.history_types import HistoryError

log = logs.get("history")

CHUNK_BYTES = 256 * 1024  # frames are sent together up to about this size
MAX_BUCKETS = 5000
_LENGTH = struct.Struct("<I")
_END = _LENGTH.pack(0)


class BadRequest(Exception):
    """A wrong parameter."""


class Ask:
    """Typed query parameters of a request."""

    def __init__(self, request: Request, known: LocalHistory) -> None:
        self._query = request.query_params
        self.feed = request.path_params.get("feed", "")
        self._known = known

    def number(self, name: str, default: int | None = None) -> int:
        found = self.maybe(name)
        if found is None:
            if default is None:
                raise BadRequest(f"parameter {name} is missing")
            return default
        return found

    def maybe(self, name: str) -> int | None:
        text = self._query.get(name)
        if text is None:
            return None
        try:
            value = int(text)
        except ValueError:
            raise BadRequest(f"parameter {name}={text!r} is not an integer") from None
        return max(-1, min(value, UNDEF))

    def text(self, name: str, default: str | None = None) -> str:
        found = self._query.get(name, default)
        if found is None:
            raise BadRequest(f"parameter {name} is missing")
        return found

    def run(self) -> int:
        """`run`, or the newest run of `session`, or the newest."""
        found = self.maybe("run")
        return self._known.pick(self.feed, self.maybe("session")).run if found is None else found


def _frames(items: Iterator[bytes]) -> Iterator[bytes]:
    """Frames, several to a chunk, and the end mark."""
    held: list[bytes] = []
    size = 0
    for item in items:
        held += (_LENGTH.pack(len(item)), item)
        size += len(item)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join((*held, _END))


async def _pump(chunks: Iterator[bytes], first: bytes) -> AsyncIterator[bytes]:
    try:
        yield first
        while True:
            chunk = await run_in_threadpool(next, chunks, None)
            if chunk is None:
                return
            yield chunk
    finally:
        close: Callable[[], None] | None = getattr(chunks, "close", None)
        if close is not None:
            close()


class Api:
    """The routes over one LocalHistory."""

    def __init__(self, known: LocalHistory) -> None:
        self._known = known

    def routes(self) -> list[Route]:
        json_routes: dict[str, Callable[[Ask], Any]] = {
            "feeds": lambda ask: self._known.feeds(),
            "{feed}/sessions": lambda ask: self._known._sessions(ask.feed),
            "{feed}/instruments": lambda ask: self._known._instruments(ask.feed, ask.run()),
            "{feed}/spans": lambda ask: self._known._spans(ask.feed, ask.text("symbol"), ask.run()),
            "{feed}/days": lambda ask: self._known._days(ask.feed, ask.maybe("run")),
            "{feed}/activity": self._activity,
            "{feed}/position": lambda ask: self._known.position(ask.feed, ask.run(), ask.number("at")),
        }
        frame_routes: dict[str, Callable[[Ask], Iterator[bytes]]] = {
            "{feed}/blocks": self._blocks,
            "{feed}/controls": self._controls,
            "{feed}/trades": self._trades,
            "{feed}/bars": self._bars,
        }
        return [
            *(Route(f"/h1/{path}", self._json(answer)) for path, answer in json_routes.items()),
            *(Route(f"/h1/{path}", self._stream(answer)) for path, answer in frame_routes.items()),
            Route("/h1/{feed}/image", self._image),
        ]

    def _json(self, answer: Callable[[Ask], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return JSONResponse(await run_in_threadpool(lambda: answer(Ask(request, self._known))))

        return endpoint

    def _stream(self, answer: Callable[[Ask], Iterator[bytes]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            chunks = _frames(answer(Ask(request, self._known)))
            first = await run_in_threadpool(next, chunks)  # errors become an answer, not a cut stream
            return StreamingResponse(_pump(chunks, first), media_type="application/octet-stream")

        return endpoint

    def _activity(self, ask: Ask) -> Any:
        start, end, buckets = ask.number("start"), ask.number("end"), ask.number("buckets", 500)
        if not 0 < buckets <= MAX_BUCKETS or end <= start:
            raise BadRequest(f"activity takes 1 to {MAX_BUCKETS} buckets and end > start")
        return self._known._activity(ask.feed, ask.run(), start, end, buckets, ask.maybe("instrument_id"))

    def _blocks(self, ask: Ask) -> Iterator[bytes]:
        kind = {"mbo": KIND_MBO, "bbo": KIND_BBO}.get(ask.text("kind", "mbo"))
        if kind is None:
            raise BadRequest("parameter kind is mbo or bbo")
        return self._known._blocks(
            ask.feed, ask.run(), ask.number("shard"), kind, first=ask.number("first", 1),
            last=ask.number("last", UNDEF), start=ask.maybe("start"), end=ask.maybe("end"),
            instrument_id=ask.maybe("instrument_id"),
        )  # fmt: skip

    def _controls(self, ask: Ask) -> Iterator[bytes]:
        found = self._known._controls(
            ask.feed, ask.run(), ask.number("shard"), ask.number("first", 1), ask.number("last", UNDEF)
        )
        return (json.dumps(control).encode() for control in found)

    def _trades(self, ask: Ask) -> Iterator[bytes]:
        return self._known._trades(
            ask.feed, ask.run(), ask.number("instrument_id"), first=ask.number("first", 1),
            last=ask.number("last", UNDEF), start=ask.maybe("start"), end=ask.maybe("end"),
        )  # fmt: skip

    def _bars(self, ask: Ask) -> Iterator[bytes]:
        return self._known._bars(
            ask.feed, ask.run(), ask.number("instrument_id"), ask.number("interval", 60), first=ask.number("first", 1),
            last=ask.number("last", UNDEF), start=ask.maybe("start"), end=ask.maybe("end"),
        )  # fmt: skip

    async def _image(self, request: Request) -> Response:
        ask = Ask(request, self._known)
        found = await run_in_threadpool(
            lambda: self._known.image(ask.feed, ask.run(), ask.number("shard"), ask.number("before", UNDEF))
        )
        if found is None:
            return Response(status_code=204)
        headers = {"X-Ordinal": str(found.ordinal), "X-Recv-Run": str(found.recv_run)}
        return Response(found.blob, media_type="application/octet-stream", headers=headers)


class BearerOnly:
    """Refuses every request without the token, before anything else looks at it."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await _problem(401, "the history API takes the token of {mbo}:history")(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _problem(status: int, detail: str) -> Response:
    title = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}.get(status, "Failure")
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def make_app(known: LocalHistory, token: str) -> Starlette:
    """The ASGI app: also what tests run in their own process."""

    async def bad_request(_: Request, error: Exception) -> Response:
        return _problem(400, str(error))

    async def not_found(_: Request, error: Exception) -> Response:
        return _problem(404, str(error))

    async def failed(_: Request, error: Exception) -> Response:
        log.limited("request failed", detail=str(error))
        return _problem(503, str(error))

    return Starlette(
        routes=Api(known).routes(),
        middleware=[Middleware(BearerOnly, token=token)],
        exception_handlers={BadRequest: bad_request, HistoryError: not_found, StoreError: failed},
    )
