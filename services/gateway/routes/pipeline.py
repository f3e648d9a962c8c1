"""`GET /v1/pipeline`: shards, owners, lag, processes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.answers import json_answer
from services.gateway.context import context_of
from services.gateway.problems import forbidden
from services.gateway.table import Rest, checked


async def pipeline(request: Request) -> Response:
    context = context_of(request)
    checked(request, ())
    principal = context.principal(request)
    if not principal.allows("*", "pipeline"):
        raise forbidden("this credential has no access to pipeline")
    return json_answer(request, await context.pipeline.read())


ROUTES = (
    Rest(
        "/v1/pipeline",
        "Feeds, shards, owners, lag and processes",
        pipeline,
        "pipeline",
        statuses=(400, 401, 403, 503),
    ),
)
