"""The ASGI application: names are checked, then SSE goes straight to its endpoint and the rest to Starlette."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.gateway import replay
from services.gateway.context import Context
from services.gateway.problems import MEDIA_TYPE, Problem, unavailable
from services.gateway.routes import book, history, instruments, meta, pipeline, session
from services.gateway.sse import StreamEndpoint
from services.gateway.table import Rest
from shared import logs, metrics
from shared.errors import BrokerError

log = logs.get("gateway")

STATIC = Path(__file__).parent / "static"
GZIP_FROM_BYTES = 1024
GZIP_IN_THREAD_FROM_BYTES = 16_384  # a piece of an export among them: live streams share the loop with them
GZIP_LEVEL = 1  # 0.3 ms a 64 KB of CSV, level 9 takes 3 and makes it a tenth smaller
GZIP_NEVER = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/vnd.apache.parquet")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
CORS_METHODS = b"GET, HEAD, OPTIONS"
CORS_HEADERS = b"authorization, x-api-key, last-event-id, if-none-match, content-type"
RAW = ("/v1/stream", "/v1/replay")

REST: tuple[Rest, ...] = (
    *instruments.ROUTES, *book.ROUTES, *history.ROUTES, *pipeline.ROUTES, *session.ROUTES, *meta.ROUTES,
)  # fmt: skip


class App:
    """`__call__` is what uvicorn serves."""

    def __init__(self, context: Context, stream: StreamEndpoint) -> None:
        self.context, self.stream = context, stream
        routes: list[BaseRoute] = [
            # a symbol may hold a slash, which arrives decoded
            Route(rest.path.replace("{symbol}", "{symbol:path}"), _timed(rest), methods=[rest.method])
            for rest in REST
        ]
        routes.append(Mount("/static", _Static(directory=STATIC, check_dir=False)))
        routes.append(Route("/", _page))
        self.rest = Starlette(
            routes=routes,
            middleware=[
                Middleware(
                    GZipMiddleware,
                    minimum_size=GZIP_FROM_BYTES,
                    compresslevel=GZIP_LEVEL,
                    thread_minimum_size=GZIP_IN_THREAD_FROM_BYTES,
                    exclude_content_types=GZIP_NEVER,
                )
            ],
            exception_handlers={
                Problem: _problem,
                HTTPException: _http_exception,
                BrokerError: _broker,
                ClientDisconnect: _left,
                Exception: _crash,
            },
        )
        self.rest.state.context = context
        self.rest.state.routes = REST

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        extra: list[tuple[bytes, bytes]] = []
        try:
            if scope["http_version"] != "1.1":
                # answers are chunked, which older versions cannot read
                detail = "use HTTP/1.1: nginx with `proxy_http_version 1.1`"
                raise Problem(505, "http-version", "HTTP version not supported", detail)
            origin = self.context.access.check_names(scope)
            if origin is not None:
                extra = cors_headers(origin)
                if scope["method"] == "OPTIONS":
                    await _answer(send, 204, [*extra, *preflight_headers()], b"")
                    return
            if scope["path"] == RAW[0]:
                await self.stream(scope, receive, send, extra)
                return
            if scope["path"] == RAW[1]:
                await replay.serve(self.context, scope, receive, send, extra)
                return
        except Problem as problem:
            await _answer(
                send,
                problem.status,
                [*problem.header_list(), *extra, *SECURITY_HEADERS],
                problem.body(),
                scope["method"],
            )
            return
        await self.rest(scope, receive, _with_headers(send, [*extra, *SECURITY_HEADERS]))


# else browsers mix modules of before and after an upgrade for days
REVALIDATE = {"cache-control": "no-cache"}


class _Static(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers.update(REVALIDATE)
        return answer


async def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers=REVALIDATE)


def cors_headers(origin: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"origin"),
        (b"access-control-expose-headers", b"etag, retry-after"),
    ]


def preflight_headers() -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-methods", CORS_METHODS), (b"access-control-allow-headers", CORS_HEADERS),
        (b"access-control-max-age", b"600"),
    ]  # fmt: skip


def _with_headers(send: Any, headers: list[tuple[bytes, bytes]]) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            had = {name for name, _ in message["headers"]} - {b"vary"}
            message["headers"] = [*message["headers"], *(pair for pair in headers if pair[0] not in had)]
        await send(message)

    return sending


async def _answer(
    send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes, method: str = "GET"
) -> None:
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def _timed(rest: Rest) -> Any:
    """The handler with its metrics."""
    seconds = metrics.get("mbo_gateway_request_seconds").labels(rest.path)
    count = metrics.get("mbo_gateway_requests_total")

    async def handle(request: Request) -> Response:
        started = time.perf_counter()
        status = 500
        try:
            response = await rest.handler(request)
            status = response.status_code
            return response
        except Problem as problem:
            status = problem.status
            raise
        finally:
            seconds.observe(time.perf_counter() - started)
            count.labels(rest.path, status).inc()

    return handle


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return Response(error.body(), error.status, {"cache-control": "no-store", **error.headers}, MEDIA_TYPE)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        problem = Problem(
            405,
            "method",
            "Method not allowed",
            "this route has another method: see /openapi.json",
            **(error.headers or {}),
        )
    else:
        problem = Problem(
            error.status_code, "not-found", "Not found", "no such route: see /docs or /openapi.json"
        )
    return await _problem(request, problem)


async def _broker(request: Request, error: Exception) -> Response:
    log.limited("request without broker", path=request.url.path, detail=str(error))
    return await _problem(
        request, unavailable("broker", "the broker does not answer: try again in a moment", 2)
    )


async def _left(request: Request, error: Exception) -> Response:
    """It went before its body was here: nobody reads this, and nothing is wrong with us."""
    return Response(status_code=400)


async def _crash(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
    return await _problem(
        request, Problem(500, "internal", "Internal error", "it was logged; try again, or tell the operator")
    )
