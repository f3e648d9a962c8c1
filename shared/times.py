"""Times as people write them: ns since the epoch, or RFC 3339 with up to nine decimals."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import ClassVar, Self

MAX_NS = 2**63 - 1
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)


class Instant(int):
    """Nanoseconds since the epoch; of a text without an offset in UTC. ValueError if it is no time."""

    form: ClassVar[str] = "a time: give ns since the epoch, or RFC 3339 such as 2025-09-24T21:00:00Z"

    def __new__(cls, value: str | int) -> Self:
        return super().__new__(cls, _parse(value) if isinstance(value, str) else value)


def _parse(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= MAX_NS:
        return int(text)
    match = _RFC3339.fullmatch(text)
    if not match:
        raise ValueError(text)
    date, clock, fraction, offset = match.groups()
    at = datetime.fromisoformat(
        f"{date}T{clock or '00:00:00'}{(offset or 'Z').upper().replace('Z', '+00:00')}"
    )
    seconds = int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    if not 0 <= seconds <= MAX_NS // 10**9 - 1:
        raise ValueError(text)
    return seconds * 10**9 + int((fraction or "").ljust(9, "0"))
