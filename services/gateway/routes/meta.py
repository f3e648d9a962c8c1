"""`GET /openapi.json`, `/docs` and `/schemas/{name}.json`: the API's own description, served without a CDN."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from services.gateway import openapi
from services.gateway.answers import blob_answer, json_answer
from services.gateway.problems import Problem
from services.gateway.table import Param, Rest, checked
from shared.wire import schemas

DOCS = Path(__file__).parent.parent / "docs"
NAMES = (*schemas.SSE_EVENTS, *schemas.REST_ANSWERS, "common")
NAME = Param("name", "an event or answer", {"type": "string", "enum": list(NAMES)}, "path", True, "delta")


async def openapi_json(request: Request) -> Response:
    checked(request, ())
    return json_answer(request, openapi.document(request.app.state.routes))


async def schema(request: Request) -> Response:
    checked(request, ())
    name = request.path_params["name"]
    if name not in NAMES:
        raise Problem(404, "unknown-schema", "Unknown schema", f"schemas are {', '.join(NAMES)}", "name")
    return json_answer(request, schemas.load(name))


async def docs(request: Request) -> Response:
    checked(request, ())
    return blob_answer(request, (DOCS / "index.html").read_bytes(), "text/html; charset=utf-8")


async def docs_part(request: Request) -> Response:
    checked(request, ())
    name = request.path_params["name"]
    kinds = {"docs.js": "text/javascript; charset=utf-8", "docs.css": "text/css; charset=utf-8"}
    if name not in kinds:
        raise Problem(404, "not-found", "Not found", "the page is at /docs")
    return blob_answer(request, (DOCS / name).read_bytes(), kinds[name])


PART = Param(
    "name", "a file of the page", {"type": "string", "enum": ["docs.js", "docs.css"]}, "path", True, "docs.js"
)
ROUTES = (
    Rest(
        "/openapi.json",
        "This description",
        openapi_json,
        "application/json",
        media=("application/json",),
        statuses=(400, 403),
    ),
    Rest(
        "/schemas/{name}.json",
        "One JSON Schema",
        schema,
        "application/json",
        (NAME,),
        media=("application/json",),
        statuses=(400, 403, 404),
    ),
    Rest("/docs", "This description as a page", docs, "text/html", media=("text/html",), statuses=(400, 403)),
    Rest(
        "/docs/{name}",
        "Parts of that page",
        docs_part,
        "",
        (PART,),
        media=("text/javascript", "text/css"),
        statuses=(400, 403, 404),
    ),
)
