"""What several routes ask for in the same words: publisher, range, period, and a symbol that may only be recorded."""

from __future__ import annotations

from typing import Any

from services.gateway.context import Context
from services.gateway.principal import Principal
from services.gateway.problems import Problem, bad_parameter, forbidden
from services.gateway.subscription import number
from services.gateway.times import parse_time
from shared.history_types import readings


def publisher_of(query: dict[str, str]) -> int | None:
    found = number(query, "publisher", -1, 0, 65_535)
    return None if found < 0 else found


def period_of(query: dict[str, str]) -> str:
    period = query.get("period") or "1m"
    if period not in ("1s", "1m"):
        raise bad_parameter("period", "period is 1s or 1m")
    return period


def session_of(query: dict[str, str]) -> int | None:
    return number(query, "session", 0, 1, 2**31) if query.get("session") else None


def range_of(query: dict[str, str], *, every: bool = False) -> dict[str, Any]:
    """start, end (ns or None) and session (`every`: or all) of a query; Problem if end is not after start."""
    start, end = parse_time(query, "start"), parse_time(query, "end")
    if start is not None and end is not None and end <= start:
        raise bad_parameter("end", "end is after start")
    session = "all" if every and query.get("session") == "all" else session_of(query)
    return {"start": start, "end": end, "session": session}


def recorded_symbol(
    context: Context, principal: Principal, text: str, channel: str, scope: str = "history"
) -> dict[str, Any]:
    """A symbol as the history knows it: a live instrument, or the text for one that is only recorded.

    Problem 403 unless the credential allows its channel and recorded data (`scope`) of it.
    """
    try:
        found = context.instrument(text, principal, channel)
    except Problem as problem:
        if problem.status not in (404, 503):
            raise
        means = allowed(principal, text, channel, scope)
        return {"symbol": text, "feed": None, "instrument_id": None, "readings": means}
    if not principal.allows(found.symbol, scope):
        raise forbidden(f"this credential has no access to {scope} of {text[:60]!r}")
    return {"symbol": found.symbol, "feed": found.feed, "instrument_id": found.instrument_id}


def allowed(principal: Principal, text: str, *channels: str) -> list[tuple[str, str]]:
    """What a symbol that is only recorded may mean to this caller (see `readings`); Problem 403 if nothing."""
    means = readings(text)
    for channel in channels:
        means = [(dataset, symbol) for dataset, symbol in means if principal.allows(symbol, channel)]
        if not means:
            raise forbidden(f"this credential has no access to {channel} of {text[:60]!r}")
    return means
