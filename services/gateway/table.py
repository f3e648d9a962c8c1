"""The REST routes as data: Starlette's routes and the OpenAPI document are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, eq=False)
class Param:
    """A query or path parameter: `schema` is its JSON Schema."""

    name: str
    help: str
    schema: dict[str, Any]
    where: str = "query"
    required: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """One route: `answer` is a schema name of shared/wire/schemas, or a media type."""

    path: str
    summary: str
    handler: Handler
    answer: str
    params: Sequence[Param] = ()
    method: str = "GET"
    statuses: Sequence[int] = (400, 401, 403, 429)
    body: dict[str, Any] | None = None  # JSON Schema of a request body
    media: Sequence[str] = ()  # of answers that are no JSON


TEXT = {"type": "string"}
SYMBOL = Param(
    "symbol",
    "raw symbol, DATASET:SYMBOL or instrument id",
    {"type": "string", "minLength": 1},
    "path",
    True,
    "CLX5",
)
PUBLISHER = Param(
    "publisher",
    "one venue; without it all venues, consolidated",
    {"type": "integer", "minimum": 0, "maximum": 65535},
)
START = Param("start", "from, inclusive: ns of ts_recv, or RFC 3339", TEXT, example="2025-09-24T21:00:00Z")
END = Param("end", "to, exclusive: ns of ts_recv, or RFC 3339", TEXT)
SESSION = Param(
    "session", "session number; default the newest that covers the time", {"type": "integer", "minimum": 1}
)

SESSION_OR_ALL = Param(
    "session",
    "session number, or all; default the newest that covers the time",
    {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "all"}]},
)


def checked(request: Request, params: Sequence[Param]) -> dict[str, str]:
    """The query, if it holds only known parameters, each once; raises Problem."""
    from services.gateway.problems import bad_parameter
    from services.gateway.sse import query_of

    query = query_of(request.scope)
    known = [param.name for param in params if param.where == "query"]
    for name in query:
        if name not in known:
            raise bad_parameter(name, f"unknown parameter; known are {', '.join(known) or 'none'}")
    return query
