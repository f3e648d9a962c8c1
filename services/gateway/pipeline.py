"""`GET /v1/pipeline`: what the broker says of feeds, shards and processes, made at most every FRESH_S for everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from services.gateway.feedstate import FeedState
from services.gateway.vector import ShardKey
from shared.broker import Broker
from shared.pipeline import Overview, overview

FRESH_S = 0.4  # the page asks twice a second


class Pipeline:
    """The newest overview; refreshed in a thread when somebody asks."""

    def __init__(self, connect: Callable[[], Broker], state: FeedState, name: str) -> None:
        self._connect, self._state, self._name = connect, state, name
        self._broker: Broker | None = None
        self._newest: Overview | None = None
        self._asked = 0.0  # monotonic s: the wall clock may be set back
        self._lock = asyncio.Lock()

    async def read(self) -> dict[str, Any]:
        """Members of the schema `pipeline`; raises BrokerLost."""
        async with self._lock:
            if self._newest is None or time.monotonic() - self._asked > FRESH_S:
                self._newest = await asyncio.to_thread(self._refresh)
                self._asked = time.monotonic()
        return self._shape(self._newest)

    def _refresh(self) -> Overview:
        if self._broker is None:
            self._broker = self._connect()
        try:
            return overview(self._broker, self._newest)
        except Exception:
            self._broker.close()
            self._broker = None
            raise

    def _shape(self, seen: Overview) -> dict[str, Any]:
        feeds = []
        for feed in seen["feeds"]:
            shards = [
                {**row, "gateway": self._position(feed["feed"], row["shard"])} for row in feed["shards"]
            ]
            feeds.append({**feed, "shards": shards})
        processes = [
            {
                "id": row["id"], "role": row["role"], "pid": row["pid"], "host": row["host"],
                "started": str(round(row["started"] * 1e9)), "age_ms": round(row["age_s"] * 1000),
                "alive": True, "feeds": row.get("feeds", []), "detail": row.get("detail", {}),
            }
            for row in seen["processes"]
        ]  # fmt: skip
        return {
            "ts_gateway": str(
                round(seen["at"] * 1e9)
            ),  # when the broker was asked: rates are made of two of these
            "gateway": self._name,
            "feeds": feeds,
            "processes": processes,
            "memory": seen["memory"],
        }

    def _position(self, feed: str, shard: int) -> int | None:
        books = self._state.books.get(ShardKey(feed, shard))
        return books.ordinal if books else None

    def close(self) -> None:
        if self._broker is not None:
            self._broker.close()
