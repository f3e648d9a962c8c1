"""`GET /v1/book/{symbol}` and `GET /v1/orders/{symbol}/{order_id}`: the books as they stand, or as they stood."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from services.gateway import encode
from services.gateway.answers import json_answer
from services.gateway.asked import publisher_of, recorded_symbol, session_of
from services.gateway.bodies import levels_body, orders_body
from services.gateway.context import Context, context_of
from services.gateway.instruments import Instrument
from services.gateway.problems import Problem, bad_parameter, unavailable
from services.gateway.shards import ShardBooks
from services.gateway.subscription import MAX_DEPTH, number
from services.gateway.table import PUBLISHER, SESSION, SYMBOL, TEXT, Param, Rest, checked
from services.gateway.times import parse_time

ORDERS_WAIT_S = 10.0
MAX_U64 = 2**64
DEPTH = Param(
    "depth",
    "levels a side, or all (default: 10, with level=3 all)",
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_DEPTH}, {"const": "all"}], "default": 10},
)
LEVEL = Param(
    "level", "2: levels; 3: every order in queue order", {"type": "integer", "enum": [2, 3], "default": 2}
)
AT = Param("at", "the book as it was at this ts_recv (ns or RFC 3339), from the recording", TEXT)
ORDER = Param(
    "order_id",
    "the venue's order id",
    {"type": "string", "pattern": "^[0-9]{1,20}$"},
    "path",
    True,
    "6871234599",
)
BOOK_PARAMS = (SYMBOL, DEPTH, LEVEL, PUBLISHER, AT, SESSION)
ORDER_PARAMS = (SYMBOL, ORDER, PUBLISHER)


async def book(request: Request) -> Response:
    context = context_of(request)
    query = checked(request, BOOK_PARAMS)
    level = number(query, "level", 2, 2, 3)
    principal = context.principal(request)
    whole = query.get("depth", "all" if level == 3 else "") == "all"
    depth = 0 if whole else number(query, "depth", 10, 1, MAX_DEPTH)
    publisher = publisher_of(query)
    if "at" in query or "session" in query:
        at = parse_time(query, "at")
        if at is None:
            raise bad_parameter("session", "session goes with at=")
        job = {"what": "book", "depth": depth, "level": level, "publisher": publisher, "at": at}
        job["session"] = session_of(query)
        job |= recorded_symbol(
            context, principal, request.path_params["symbol"], "mbo" if level == 3 else "book"
        )
        return await context.recaller.json(request, principal, job)
    instrument, books = context.live(request, principal, "mbo" if level == 3 else "book")
    who = {
        "symbol": instrument.symbol, "dataset": instrument.dataset, "feed": instrument.feed,
        "instrument_id": instrument.instrument_id, "publisher_id": publisher, "level": level,
    }  # fmt: skip
    if level == 3:
        books = await with_orders(context, instrument)
        return json_answer(request, {**who, **orders_body(books, instrument.instrument_id, publisher, depth)})
    return json_answer(request, {**who, **levels_body(books, instrument.instrument_id, publisher, depth)})


async def with_orders(context: Context, instrument: Instrument) -> ShardBooks:
    """The shard's books with their orders; waits while they are being loaded."""
    state, deadline = context.hub.state, time.monotonic() + ORDERS_WAIT_S
    while time.monotonic() < deadline:
        state.want_orders(instrument.key, time.monotonic())
        books = state.books[instrument.key]
        if books.orders_ready:
            return books
        await asyncio.sleep(0.01)
    raise unavailable(
        "orders", "the orders of this instrument are still being loaded: try again in a moment", 5
    )


async def order(request: Request) -> Response:
    context = context_of(request)
    query = checked(request, ORDER_PARAMS)
    principal = context.principal(request)
    text, publisher = request.path_params["order_id"], publisher_of(query)
    if not (text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) < MAX_U64):
        raise bad_parameter("order_id", "an order id is a whole number below 2^64")
    instrument, _ = context.live(request, principal, "mbo")
    books = await with_orders(context, instrument)
    assert books.orders is not None
    engine = books.orders.engine
    for venue in books.publishers.get(instrument.instrument_id, ()):
        place = (
            engine.place(venue, instrument.instrument_id, int(text)) if publisher in (None, venue) else None
        )
        if place is None:
            continue
        side, px = place.side, place.order.price
        found = next(row for row in engine.levels(venue, instrument.instrument_id, side) if row.price == px)
        body = {
            "symbol": instrument.symbol,
            "dataset": instrument.dataset,
            "feed": instrument.feed,
            "instrument_id": instrument.instrument_id,
            "publisher_id": venue,
            "session": books.session,
            "q": books.ordinal,
            "order_id": text.lstrip("0") or "0",
            "side": chr(side),
            "price": encode.px_text(px),
            "size": place.order.size,
            "ts_event": str(place.order.ts_event),
            "index": place.index,
            "ahead": place.ahead,
            "level": encode.levels([found])[0],
            "stale": books.is_stale(instrument.instrument_id),
        }
        return json_answer(request, body)
    raise Problem(404, "unknown-order", "Unknown order", "no such order rests in this book now", "order_id")


MORE = (400, 401, 403, 404, 429, 503)
ROUTES = (
    Rest("/v1/book/{symbol}", "One book: levels, or every order", book, "book", BOOK_PARAMS, statuses=MORE),
    Rest(
        "/v1/orders/{symbol}/{order_id}",
        "One order and its place in the queue",
        order,
        "order",
        ORDER_PARAMS,
        statuses=MORE,
    ),
)
