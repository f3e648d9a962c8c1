"""Times in a query: see shared.times."""

from __future__ import annotations

from collections.abc import Mapping

from services.gateway.problems import bad_parameter
from shared.times import Instant


def parse_time(query: Mapping[str, str], name: str) -> int | None:
    """ns, or None if the parameter is not there; Problem 400 if it is no time. Without an offset it is UTC."""
    text = query.get(name, "")
    if text == "":
        return None
    try:
        return int(Instant(text))
    except (ValueError, OverflowError):
        raise bad_parameter(
            name, "a time is ns since the epoch, or RFC 3339 such as 2025-09-24T21:00:00Z"
        ) from None
