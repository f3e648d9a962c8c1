"""`POST /v1/login`, `POST /v1/logout`, `GET /v1/session`: who the browser is."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.answers import json_answer
from services.gateway.auth import COOKIE
from services.gateway.context import context_of
from services.gateway.principal import Principal
from services.gateway.problems import Problem
from services.gateway.table import Rest, checked

MAX_BODY_BYTES = 16_384
BODY = {
    "type": "object", "required": ["key"], "additionalProperties": False,
    "properties": {"key": {"type": "string", "description": "an API key or a token", "maxLength": 8192}},
}  # fmt: skip


def _shape(principal: Principal) -> dict[str, object]:
    expires = None if principal.expires_s is None else str(int(principal.expires_s * 1e9))
    return {
        "name": principal.name, "auth": principal.auth, "symbols": principal.symbols, "channels": principal.channels,
        "expires": expires,
    }  # fmt: skip


async def login(request: Request) -> Response:
    """An HttpOnly SameSite=Strict cookie for an API key or token: EventSource cannot send headers."""
    context = context_of(request)
    checked(request, ())
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Problem(415, "media-type", "Unsupported media type", "send application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Problem(
                413, "too-large", "Content too large", f"the body has at most {MAX_BODY_BYTES} bytes"
            )
    try:
        key = json.loads(body)["key"]
        if not isinstance(key, str):
            raise TypeError
        key.encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Problem(400, "bad-body", "Bad body", 'send {"key": "<API key or token>"}') from None
    principal = context.access.check(key)
    value, seconds = context.access.cookie(principal)
    answer = json_answer(request, _shape(principal), cache="no-store")
    secure = request.scope["scheme"] == "https"
    answer.set_cookie(
        COOKIE, value, max_age=seconds, path="/", httponly=True, samesite="strict", secure=secure
    )
    return answer


async def logout(request: Request) -> Response:
    checked(request, ())
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


async def session(request: Request) -> Response:
    context = context_of(request)
    checked(request, ())
    return json_answer(request, _shape(context.principal(request)), cache="no-store")


ROUTES = (
    Rest(
        "/v1/login",
        "Sign in: sets the session cookie",
        login,
        "login",
        method="POST",
        body=BODY,
        statuses=(400, 401, 403, 413, 415, 503),
    ),
    Rest("/v1/logout", "Sign out: removes the cookie", logout, "", method="POST", statuses=(400, 403)),
    Rest("/v1/session", "Who the caller is", session, "login", statuses=(400, 401, 403)),
)
