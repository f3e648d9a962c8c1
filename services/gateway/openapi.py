"""The OpenAPI 3.1 document, made from the routes' table and the schema files."""

from __future__ import annotations

import functools
import json
from typing import Any

from services.gateway.routes.streams import REPLAY_PARAMS, STREAM_PARAMS
from services.gateway.table import Param, Rest
from shared.wire import schemas

STATUS_TEXT = {
    304: "not changed since If-None-Match",
    400: "a parameter is wrong",
    401: "a credential is missing or wrong",
    403: "the credential, Host or Origin does not allow it",
    404: "unknown",
    413: "too large",
    414: "too long",
    415: "wrong media type",
    429: "too many at once",
    503: "not available now",
}


def _fixed(node: Any) -> Any:
    """References of the schema files as references inside the document; examples and ids stay out of the way."""
    if isinstance(node, dict):
        return {
            key: (_reference(value) if key == "$ref" else _fixed(value))
            for key, value in node.items()
            if key not in ("$id", "$schema")
        }
    return [_fixed(item) for item in node] if isinstance(node, list) else node


def _reference(text: str) -> str:
    name, _, path = text.removeprefix(schemas.URN).partition("#")
    return f"#/components/schemas/{name}{path}"


def _parameter(param: Param) -> dict[str, Any]:
    row = {
        "name": param.name,
        "in": param.where,
        "required": param.required,
        "description": param.help,
        "schema": param.schema,
    }
    return {**row, "example": param.example} if param.example is not None else row


def _operation(rest: Rest) -> dict[str, Any]:
    name = rest.path.strip("/").removeprefix("v1/").translate(str.maketrans("/{}.", "_  _")).replace(" ", "")
    if rest.media:
        good: dict[str, Any] = {"description": "the answer", "content": {media: {} for media in rest.media}}
    elif rest.answer:
        schema = {"$ref": f"#/components/schemas/{rest.answer}"}
        good = {
            "description": schemas.load(rest.answer)["description"],
            "content": {"application/json": {"schema": schema}},
        }
    else:
        good = {"description": "done"}
    answers = {"200" if rest.answer or rest.media else "204": good}
    if rest.method == "GET":
        answers["304"] = {"description": STATUS_TEXT[304]}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}}
    for status in rest.statuses:
        answers[str(status)] = {"description": STATUS_TEXT[status], "content": problem}
    found: dict[str, Any] = {
        "operationId": f"{rest.method.lower()}_{name}", "summary": rest.summary,
        "parameters": [_parameter(param) for param in rest.params], "responses": answers,
    }  # fmt: skip
    if rest.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": rest.body}}}
    return found


def _stream(path: str, summary: str, params: list[Param]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}}
    events = ", ".join(f"`{name}`" for name in schemas.SSE_EVENTS)
    answers: dict[str, Any] = {
        "200": {"description": f"Server-Sent Events {events}", "content": {"text/event-stream": {}}}
    }
    for status in (400, 401, 403, 404, 414, 429, 503):
        answers[str(status)] = {"description": STATUS_TEXT[status], "content": problem}
    name = path.rsplit("/", 1)[1]
    return {
        "get": {
            "operationId": f"get_{name}",
            "summary": summary,
            "parameters": [_parameter(p) for p in params],
            "responses": answers,
        }
    }


@functools.cache
def document(routes: tuple[Rest, ...]) -> dict[str, Any]:
    """The whole document of these routes and the two streams, made once."""
    paths: dict[str, Any] = {}
    for rest in routes:
        paths.setdefault(rest.path, {})[rest.method.lower()] = _operation(rest)
    paths["/v1/stream"] = _stream("/v1/stream", "Live events", STREAM_PARAMS)
    paths["/v1/replay"] = _stream("/v1/replay", "Recorded events by market time", REPLAY_PARAMS)
    names = (*schemas.SSE_EVENTS, *schemas.REST_ANSWERS, "common")
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "mbostream gateway",
            "version": "1",
            "description": "Order books, trades and order flow. Prices are exact decimal strings, sizes ints, "
            "order ids and nanosecond times strings. Errors are RFC 9457 problem+json whose `detail` says what to do.",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "schemas": {name: _fixed(schemas.load(name)) for name in names},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "an API key (`mbo keys`) or a JWT",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "mbo_session",
                    "description": "from POST /v1/login",
                },
            },
        },
        "security": [{}, {"bearer": []}, {"cookie": []}],
    }
    copy: dict[str, Any] = json.loads(json.dumps(found))
    return copy
