"""Members of book answers, made the same way by live routes and by the recall process."""

from __future__ import annotations

from typing import Any

from services.gateway import encode
from services.gateway.channels.book import auction, venue_rows
from services.gateway.shards import ShardBooks


def levels_body(books: ShardBooks, instrument_id: int, publisher: int | None, depth: int) -> dict[str, Any]:
    """Members of a level-2 book at the shard's position; `depth` 0 is all."""
    view = books.view(instrument_id, publisher, depth or None)
    body = {
        "session": books.session,
        "q": books.ordinal,
        "ts_event": str(view.ts_event),
        "ts_recv": str(view.ts_recv),
        "depth": depth,
        "bids": encode.levels(view.bids),
        "asks": encode.levels(view.asks),
        "crossed": view.crossed,
        "stale": view.stale,
        "auction": auction(view.auction),
    }
    if len(view.venues) > 1:
        body["venues"] = venue_rows(view.venues)
    return body


def orders_body(books: ShardBooks, instrument_id: int, publisher: int | None, depth: int) -> dict[str, Any]:
    """Members of a level-3 book at the shard's position; `depth` 0 is all."""
    body = books.orders_body(instrument_id, publisher)
    return {**body, "bids": body["bids"][: depth or None], "asks": body["asks"][: depth or None]}
