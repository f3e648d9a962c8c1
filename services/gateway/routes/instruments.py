"""`GET /v1/instruments`: what there is."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.answers import json_answer
from services.gateway.context import Context, context_of
from services.gateway.instruments import Instrument
from services.gateway.subscription import number
from services.gateway.table import TEXT, Param, Rest, checked

MAX_ROWS = 10_000
PARAMS = (
    Param("search", "a part of the symbol, any case, or a whole instrument id", TEXT, example="CL"),
    Param("dataset", "only this dataset or feed", TEXT),
    Param("limit", "rows at most", {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": 1000}),
    Param("after", "`next` of the answer before", TEXT),
)


async def instruments(request: Request) -> Response:
    """One row a symbol and feed, in that order; `next` goes on after the last row."""
    context = context_of(request)
    query = checked(request, PARAMS)
    principal = context.principal(request)
    limit = number(query, "limit", 1000, 1, MAX_ROWS)
    search, dataset, after = (
        query.get("search", "").lower(),
        query.get("dataset", "").lower(),
        query.get("after", ""),
    )
    directory = context.hub.state.directory
    found = [
        i for i in directory.symbols()
        if (search in i.symbol.lower() or search in {str(n) for n in (i.instrument_id, *directory.other_ids(i))})
        and dataset in ("", i.dataset.lower(), i.feed) and _visible(principal, i)
    ]  # fmt: skip
    rest = [i for i in found if _cursor(i) > after] if after else found
    rows = [_row(context, i) for i in rest[:limit]]
    follow = _cursor(rest[limit - 1]) if len(rest) > limit else None
    return json_answer(request, {"instruments": rows, "total": len(found), "next": follow})


def _visible(principal: Any, instrument: Instrument) -> bool:
    return any(
        principal.allows(instrument.symbol, channel)
        for channel in ("bbo", "book", "trades", "mbo", "bars", "status")
    )


def _cursor(instrument: Instrument) -> str:
    return f"{instrument.symbol}\x1f{instrument.feed}"


def _row(context: Context, instrument: Instrument) -> dict[str, Any]:
    books = context.hub.state.books.get(instrument.key)
    live = books is not None and instrument.instrument_id in books.publishers
    others = context.hub.state.directory.other_ids(instrument)
    ids = ((instrument.feed, number) for number in (instrument.instrument_id, *others))
    times = [context.recorded[each] for each in ids if each in context.recorded]
    first, last = (
        min((t[0] for t in times), key=int, default=None),
        max((t[1] for t in times), key=int, default=None),
    )
    crossed = books is not None and live and books.view(instrument.instrument_id, None, 1).crossed
    return {
        "symbol": instrument.symbol, "instrument_id": instrument.instrument_id, "other_ids": others,
        "dataset": instrument.dataset, "feed": instrument.feed, "shard": instrument.shard,
        "publishers": instrument.publishers,
        "tick_size": instrument.tick_size, "multiplier": instrument.multiplier, "currency": instrument.currency,
        "expiration": instrument.expiration, "first": first, "last": last,
        "stale": books is not None and books.is_stale(instrument.instrument_id), "crossed": crossed, "live": live,
    }  # fmt: skip


ROUTES = (Rest("/v1/instruments", "Instruments of every feed", instruments, "instruments", PARAMS),)
