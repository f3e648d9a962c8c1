"""What a running pipeline looks like from the broker: one picture for `mbo status`, /v1/pipeline and the page."""

from __future__ import annotations

import json
import time
from typing import Any

from shared.broker import Broker, Command, fullest
from shared.registration import living
from shared.wire.codec import decode_in, decode_out
from shared.wire.keys import Keys, parse_id, stream_id

Overview = dict[str, Any]


def _ordinal(text: bytes | str | None, session: int) -> int | None:
    """The ordinal of an offset of this session; None if there is none."""
    if not text:
        return None
    at_session, ordinal = parse_id(text)
    return ordinal if at_session == session else 0


def overview(broker: Broker, before: Overview | None = None) -> Overview:
    """Feeds, shards, owners, lag, images, memory and processes; `before` (an earlier overview) gives the rates.

    Raises BrokerLost. Lag in records is behind the end of `:in`; lag in seconds is how long ago ingest took the oldest
    records that a required reader has not committed, 0 if there are none.
    """
    keys = broker.keys
    names = sorted(name.decode() for name in broker.call("SMEMBERS", keys.feeds))
    now = time.time()
    used, limit = fullest(broker.info("memory"))
    return {
        "at": now,
        "feeds": [_feed(broker, name, now, before) for name in names],
        "processes": sorted(living(broker), key=lambda row: str(row["id"])),
        "memory": {"used_bytes": used, "limit_bytes": limit},  # of a cluster, the fullest node's
    }


def _feed(broker: Broker, feed: str, now: float, before: Overview | None) -> dict[str, Any]:
    keys = broker.keys
    meta, lease = broker.hash(keys.feed(feed, "meta")), broker.hash(keys.feed(feed, "lease"))
    shards, session = int(meta.get("shards", 0)), int(meta.get("session", 0))
    readers = [name for name in meta.get("readers", "").split(",") if name]
    old = {row["feed"]: row for row in (before or {}).get("feeds", [])}.get(feed)
    seconds = max(now - before["at"], 0.0) if before else 0.0  # 0, no rates, where the clock was set back
    rows = []
    found = broker.pipe([ask for shard in range(shards) for ask in _asks(keys, feed, shard)])
    looks = [found[at : at + ASKS] for at in range(0, len(found), ASKS)]
    late = _late(broker, feed, looks, readers)
    for shard, (pos, owner, img, outs, first, last) in enumerate(looks):
        offsets = _pairs(pos)
        end = _ordinal(last[0][0], session) if last else _ordinal(offsets.get("book"), session)
        lag = {name: max((end or 0) - (_ordinal(offsets.get(name), session) or 0), 0) for name in readers}
        image = json.loads(img) if img else None
        was = old["shards"][shard]["in"] if old and shard < len(old["shards"]) else None
        rows.append(
            {
                "shard": shard,
                "owner": owner[0].decode() if owner[0] else None,
                "epoch": int(owner[1] or 0),
                "in": end,
                "out": _ordinal(outs[0][0], session) if outs else None,
                "readers": {
                    name: {"at": _ordinal(offsets.get(name), session), "lag": lag[name]} for name in readers
                },
                "lag_s": max(now - late[shard] / 1e9, 0.0) if shard in late else 0.0,
                "rate": max(end - was, 0) / seconds
                if seconds and end is not None and was is not None
                else None,
                "image": _ordinal(image["offset"], session) if image else None,
                "image_age_s": now - float(image["at"]) if image else None,
                "image_bytes": int(image["bytes"]) if image else None,
                "trim_floor": _ordinal(first[0][0], session) if first else end,
                "stale": bool(outs) and _is_stale(outs[0][1][1]),
            }
        )
    return {
        "feed": feed, "dataset": meta.get("dataset", ""), "session": session, "state": meta.get("state", ""),
        "policy": meta.get("policy", ""), "owner": lease.get("owner") or None, "readers": readers, "shards": rows,
    }  # fmt: skip


ASKS = 6


def _asks(keys: Keys, feed: str, shard: int) -> list[Command]:
    """What is asked of a shard, all in one round trip a node."""
    stream, out = keys.shard(feed, shard, "in"), keys.shard(feed, shard, "out")
    return [
        ("HGETALL", keys.shard(feed, shard, "pos")),
        ("HMGET", keys.shard(feed, shard, "lease"), "owner", "epoch"),
        ("HGET", keys.shard(feed, shard, "img"), "newest"),
        ("XREVRANGE", out, "+", "-", "COUNT", 1),
        ("XRANGE", stream, "-", "+", "COUNT", 1),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
    ]


def _pairs(flat: list[bytes]) -> dict[str, bytes]:
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def _late(broker: Broker, feed: str, looks: list[list[Any]], readers: list[str]) -> dict[int, int]:
    """When ingest took the oldest entry that a reader has not committed all of, by shard, where there is one; in ns."""
    after = {}
    for shard, (pos, *_, last) in enumerate(looks):
        offsets = _pairs(pos)
        slowest = min((parse_id(offsets.get(name, b"0-0")) for name in readers), default=None)
        if last and slowest is not None and slowest < parse_id(last[0][0]):
            after[shard] = stream_id(*slowest)
    replies = broker.pipe(
        [
            ("XRANGE", broker.keys.shard(feed, shard, "in"), f"({offset}", "+", "COUNT", 1)
            for shard, offset in after.items()
        ]
    )
    return {
        shard: decode_in(reply[0][1][1]).ts_ingest
        for shard, reply in zip(after, replies, strict=True)
        if reply
    }


def _is_stale(blob: bytes) -> bool:
    return decode_out(blob).stale
