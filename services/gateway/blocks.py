"""What the gateway itself says on a stream: hello, heartbeat and bye."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from services.gateway import close_codes, encode
from services.gateway.close_codes import Bye
from services.gateway.instruments import Feed
from services.gateway.topic import Topic


def hello(
    gateway: str, views: list[dict[str, Any]], *, heartbeat_s: float, columns: bool, expires_ns: int | None, now_ns: int
) -> bytes:  # fmt: skip
    """`views`: rows of `Topic.announce`."""
    body = {
        "protocol": 1,
        "gateway": gateway,
        "ts_gateway": str(now_ns),
        "heartbeat_ms": round(heartbeat_s * 1000),
        "expires": str(expires_ns) if expires_ns else None,
        "encoding": "columns" if columns else "rows",
        "views": views,
    }
    return encode.event("hello", body)


def heartbeat(topics: Iterable[Topic], feeds: Mapping[str, Feed], now: float) -> bytes:
    """How old the newest data of each subscribed feed is at `now` (monotonic s), and whether any of it is stale."""
    rows: dict[str, dict[str, Any]] = {}
    for topic in topics:
        books = topic.books
        feed = feeds[topic.key.shard.feed]
        age = round((now - books.arrived) * 1000) if books.arrived else None
        row = rows.setdefault(
            feed.name,
            {
                "feed": feed.name,
                "session": books.session,
                "state": "ended" if books.ended else "open",
                "age_ms": age,
                "stale": False,
            },
        )
        row["stale"] = row["stale"] or books.stale or books.gap
        if age is not None:
            row["age_ms"] = age if row["age_ms"] is None else min(age, row["age_ms"])
    return encode.event("heartbeat", {"ts_gateway": str(time.time_ns()), "feeds": list(rows.values())})


def bye(said: Bye, **more: Any) -> bytes:
    """`bye` with `more` members, preceded by the `retry:` that EventSource obeys."""
    retry = close_codes.retry_ms(said)
    block = encode.event("bye", {"reason": said.reason, "detail": said.detail, "retry_ms": retry, **more})
    return (b"retry: %d\n\n" % retry if retry is not None else b"") + block
