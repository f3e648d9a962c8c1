"""Times as clients write them: ns since the epoch, or RFC 3339 with up to nine decimals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from services.gateway.problems import bad_parameter

MAX_NS = 2**63 - 1
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)


def parse_time(query: Mapping[str, str], name: str) -> int | None:
    """ns, or None if the parameter is not there; Problem 400 if it is no time. Without an offset it is UTC."""
    text = query.get(name, "")
    if text == "":
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= MAX_NS:
        return int(text)
    match = _RFC3339.fullmatch(text)
    if match:
        date, clock, fraction, offset = match.groups()
        try:
            at = datetime.fromisoformat(
                f"{date}T{clock or '00:00:00'}{(offset or 'Z').upper().replace('Z', '+00:00')}"
            )
            seconds = int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
        except (ValueError, OverflowError):
            seconds = -1
        if 0 <= seconds <= MAX_NS // 10**9 - 1:
            return seconds * 10**9 + int((fraction or "").ljust(9, "0"))
    raise bad_parameter(name, "a time is ns since the epoch, or RFC 3339 such as 2025-09-24T21:00:00Z")
