"""`GET /v1/replay`: the stream's protocol over recorded data; checked here, made by the recall process."""

from __future__ import annotations

from typing import Any

from services.gateway import subscription
from services.gateway.asked import range_of, recorded_symbol
from services.gateway.context import Context
from services.gateway.problems import Problem, bad_parameter
from services.gateway.sse import HEADERS, header, ip_of, query_of

KNOWN = (
    "symbols",
    "channels",
    "depth",
    "interval",
    "publisher",
    "encoding",
    "start",
    "end",
    "speed",
    "session",
    "last_event_id",
)
MAX_SYMBOLS = 100
MAX_SPEED = 1e6


def speed_of(query: dict[str, str]) -> float:
    """Times market time; 0 is as fast as the client reads."""
    text = query.get("speed") or "1"
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 < speed <= MAX_SPEED:
        raise bad_parameter("speed", "speed is a number above 0, or max")
    return speed


async def serve(
    context: Context, scope: Any, receive: Any, send: Any, extra: list[tuple[bytes, bytes]]
) -> None:
    """Raises Problem before the stream begins; the worker's own problems come as its answer."""
    if scope["method"] not in ("GET", "HEAD"):
        raise Problem(405, "method", "Method not allowed", "use GET", allow="GET, HEAD")
    query = query_of(scope)
    principal = context.access.principal(scope)
    wanted = subscription.parse(
        {k: v for k, v in query.items() if k not in ("start", "end", "speed", "session")}, KNOWN
    )
    if wanted.is_all or len(wanted.symbols) > MAX_SYMBOLS:
        raise bad_parameter("symbols", f"a replay names its symbols, at most {MAX_SYMBOLS}")
    symbols = []
    for text in wanted.symbols:
        for channel in wanted.channels:
            symbol = recorded_symbol(context, principal, text, channel)
        symbols.append(symbol)
    job = {
        "what": "replay",
        "symbols": symbols,
        "channels": wanted.channels,
        "depth": wanted.depth,
        "interval_ms": wanted.interval_ms,
        "publisher": wanted.publisher,
        "columns": wanted.columns,
        "speed": speed_of(query),
        "heartbeat_s": context.settings.heartbeat_s,
        "last_event_id": query.get("last_event_id") or header(scope, b"last-event-id") or "",
        **range_of(query),
    }
    lease = context.recaller.lease(principal, ip_of(scope))
    if scope["method"] == "HEAD":
        lease.release()
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *extra]})
        await send({"type": "http.response.body", "body": b""})
        return
    await context.recaller.stream(receive, send, job, lease, [*HEADERS, *extra])
