"""Recorded data: history pages, activity, days and exports; all answered by the recall process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.asked import allowed, period_of, publisher_of, range_of, recorded_symbol
from services.gateway.context import context_of
from services.gateway.problems import bad_parameter, forbidden
from services.gateway.subscription import number
from services.gateway.table import (
    END,
    PUBLISHER,
    SESSION,
    SESSION_OR_ALL,
    START,
    SYMBOL,
    TEXT,
    Param,
    Rest,
    checked,
)

MAX_ROWS = 10_000
MAX_BUCKETS = 2_000
LIMIT = Param(
    "limit", "rows at most", {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": 1000}
)
AFTER = Param("after", "`next` of the answer before", TEXT)
PERIOD = Param("period", "of bars", {"type": "string", "enum": ["1s", "1m"], "default": "1m"})
BUCKETS = Param(
    "buckets",
    "of the histogram, at most",
    {"type": "integer", "minimum": 1, "maximum": MAX_BUCKETS, "default": 200},
)
RANGE = (SYMBOL, START, END, LIMIT, AFTER, SESSION_OR_ALL, PUBLISHER)
SCHEMAS = ("mbo", "mbp-1", "mbp-10", "trades", "bars")
FORMATS = ("dbn", "csv", "json", "parquet")
SCHEMA = Param("schema", "what", {"type": "string", "enum": list(SCHEMAS), "default": "mbo"})
FORMAT = Param(
    "format",
    "how",
    {"type": "string", "enum": ["dbn", "csv", "json", "parquet"], "default": "csv"},
)
CHANNEL_OF = {
    "mbo": "mbo",
    "mbp-1": "book",
    "mbp-10": "book",
    "trades": "trades",
    "bars": "bars",
    "bbo": "bbo",
}
ERRORS = (400, 401, 403, 404, 429, 503)


def _page(kind: str, params: Sequence[Param]) -> Any:
    async def page(request: Request) -> Response:
        context = context_of(request)
        query = checked(request, params)
        principal = context.principal(request)
        job = {"what": "rows", "kind": kind, **range_of(query, every=True)}
        job |= {"limit": number(query, "limit", 1000, 1, MAX_ROWS), "after": query.get("after") or None}
        job["publisher"] = publisher_of(query)
        if kind == "bars":
            job["period"] = period_of(query)
        job |= recorded_symbol(context, principal, request.path_params["symbol"], CHANNEL_OF[kind])
        return await context.recaller.json(request, principal, job)

    return page


async def activity(request: Request) -> Response:
    context = context_of(request)
    query = checked(request, ACTIVITY)
    principal = context.principal(request)
    job = {"what": "activity", **range_of(query), "buckets": number(query, "buckets", 200, 1, MAX_BUCKETS)}
    job |= recorded_symbol(context, principal, request.path_params["symbol"], "trades")
    return await context.recaller.json(request, principal, job)


async def days(request: Request) -> Response:
    context = context_of(request)
    query = checked(request, DAYS)
    principal = context.principal(request)
    symbol = query.get("symbol") or None
    if not symbol and "*" not in principal.symbols:
        raise forbidden("this credential is for some symbols only: say symbol=")
    job: dict[str, Any] = {"what": "days", "symbol": symbol}
    if symbol:
        job["readings"] = allowed(principal, symbol, "trades")
    return await context.recaller.json(request, principal, job)


async def export(request: Request) -> Response:
    context = context_of(request)
    query = checked(request, EXPORT)
    schema, form = query.get("schema", "mbo"), query.get("format", "csv")
    if schema not in SCHEMAS:
        raise bad_parameter("schema", f"schema is one of {', '.join(SCHEMAS)}")
    if form not in FORMATS:
        raise bad_parameter("format", f"format is one of {', '.join(FORMATS)}")
    principal = context.principal(request)
    job = {"what": "export", "schema": schema, "format": form, "period": period_of(query)}
    job |= range_of(query, every=True)
    job |= recorded_symbol(context, principal, request.path_params["symbol"], CHANNEL_OF[schema], "export")
    answer: Response = await context.recaller.file(request, principal, job)
    return answer


PAGES = {
    kind: (*RANGE[:3], PERIOD, *RANGE[3:6]) if kind == "bars" else RANGE
    for kind in ("trades", "bbo", "bars", "mbo")
}
ACTIVITY = (SYMBOL, START, END, BUCKETS, SESSION)
DAYS = (Param("symbol", "only days that hold this instrument", TEXT),)
EXPORT = (SYMBOL, SCHEMA, FORMAT, PERIOD, START, END, SESSION_OR_ALL)
MEDIA = ("application/octet-stream", "text/csv", "application/x-ndjson", "application/vnd.apache.parquet")
ROUTES = (
    *(
        Rest(
            f"/v1/history/{{symbol}}/{kind}",
            f"Recorded {kind}",
            _page(kind, PAGES[kind]),
            f"history-{kind}",
            PAGES[kind],
            statuses=ERRORS,
        )
        for kind in PAGES
    ),
    Rest(
        "/v1/history/{symbol}/activity",
        "Histogram of what is recorded",
        activity,
        "activity",
        ACTIVITY,
        statuses=ERRORS,
    ),
    Rest("/v1/days", "Calendar of what is recorded", days, "days", DAYS, statuses=ERRORS),
    Rest("/v1/export/{symbol}", "Recorded data as a file", export, "", EXPORT, statuses=ERRORS, media=MEDIA),
)
