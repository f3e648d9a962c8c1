"""JSON answers: ETag and 304, one way for all REST routes."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway import encode


def json_answer(request: Request, body: Any, *, status: int = 200, cache: str = "no-cache") -> Response:
    """The body as JSON with a weak ETag (gzip may change its bytes); 304 if the client has it."""
    return blob_answer(request, encode.dumps(body), "application/json", status=status, cache=cache)


def blob_answer(
    request: Request, blob: bytes, media: str, *, status: int = 200, cache: str = "no-cache"
) -> Response:
    tag = f'W/"{hashlib.blake2b(blob, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": cache}
    had = {item.strip() for item in request.headers.get("if-none-match", "").split(",")}
    if status == 200 and (tag in had or "*" in had):
        return Response(status_code=304, headers=headers)
    return Response(blob, status_code=status, media_type=media, headers=headers)
