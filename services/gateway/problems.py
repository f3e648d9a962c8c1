"""Errors a client gets: RFC 9457 problem+json whose `detail` says what to do."""

from __future__ import annotations

from typing import Any

from services.gateway import encode

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A 4xx or 5xx answer."""

    def __init__(
        self, status: int, kind: str, title: str, detail: str, parameter: str | None = None, **headers: str
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail, self.parameter = (
            status,
            kind,
            title,
            detail,
            parameter,
        )
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def body(self) -> bytes:
        members: dict[str, Any] = {
            "type": f"urn:mbostream:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.parameter:
            members["parameter"] = self.parameter
        return encode.dumps(members)

    def header_list(self) -> list[tuple[bytes, bytes]]:
        rest = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        return [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store"), *rest]


def bad_parameter(name: str, detail: str) -> Problem:
    return Problem(400, "bad-parameter", "Bad parameter", f"{name[:40]}: {detail}", name[:40])


def unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", "Unauthorized", detail, www_authenticate='Bearer realm="mbostream"')


def forbidden(detail: str) -> Problem:
    return Problem(403, "forbidden", "Forbidden", detail)


def too_many(detail: str, retry_s: int = 5) -> Problem:
    return Problem(429, "too-many", "Too many requests", detail, retry_after=str(retry_s))


def unavailable(kind: str, detail: str, retry_s: int = 1) -> Problem:
    return Problem(503, kind, "Not available now", detail, retry_after=str(retry_s))
