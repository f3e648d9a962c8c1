"""What a running pipeline looks like from the broker: one picture for `mbo status`, /v1/pipeline and the page."""

from __future__ import annotations

import json
import time
from typing import Any

from shared.broker import Broker
from shared.runner import PROC_DEAD_S
from shared.wire.codec import decode_in, decode_out
from shared.wire.keys import parse_id

Overview = dict[str, Any]


def _ordinal(text: bytes | str | None, session: int) -> int | None:
    """The ordinal of an offset of this session; None if there is none."""
    if not text:
        return None
    at_session, ordinal = parse_id(text)
    return ordinal if at_session == session else 0


def overview(broker: Broker, before: Overview | None = None) -> Overview:
    """Feeds, shards, owners, lag, images, memory and processes; `before` (an earlier overview) gives the rates.

    Raises BrokerLost. Lag in records is behind the end of `:in`; lag in seconds is the age of the newest entry while
    any record is behind, else 0.
    """
    keys = broker.keys
    names = sorted(name.decode() for name in broker.call("SMEMBERS", keys.feeds))
    now = time.time()
    memory = broker.info("memory")
    processes = []
    for proc_id, text in broker.hash(keys.procs).items():
        row = json.loads(text)
        if now - float(row["at"]) < PROC_DEAD_S:
            processes.append({"id": proc_id, **row})
    return {
        "at": now,
        "feeds": [_feed(broker, name, now, before) for name in names],
        "processes": sorted(processes, key=lambda row: str(row["id"])),
        "memory": {"used_bytes": int(memory["used_memory"]), "limit_bytes": int(memory.get("maxmemory", 0))},
    }


def _feed(broker: Broker, feed: str, now: float, before: Overview | None) -> dict[str, Any]:
    keys = broker.keys
    meta, lease = broker.hash(keys.feed(feed, "meta")), broker.hash(keys.feed(feed, "lease"))
    shards, session = int(meta.get("shards", 0)), int(meta.get("session", 0))
    readers = [name for name in meta.get("readers", "").split(",") if name]
    old = {row["feed"]: row for row in (before or {}).get("feeds", [])}.get(feed)
    seconds = now - before["at"] if before else 0.0
    rows = []
    tails = broker.last_ids([keys.shard(feed, shard, "in") for shard in range(shards)])
    for shard, tail in enumerate(tails):
        pos, owner, img, outs, first = broker.pipe(
            [
                ("HGETALL", keys.shard(feed, shard, "pos")),
                ("HMGET", keys.shard(feed, shard, "lease"), "owner", "epoch"),
                ("HGET", keys.shard(feed, shard, "img"), "newest"),
                ("XREVRANGE", keys.shard(feed, shard, "out"), "+", "-", "COUNT", 1),
                ("XRANGE", keys.shard(feed, shard, "in"), "-", "+", "COUNT", 1),
            ]
        )
        offsets = {pos[i].decode(): pos[i + 1] for i in range(0, len(pos), 2)}
        entry = decode_in(tail.d) if tail else None
        end = _ordinal(tail.id, session) if tail else _ordinal(offsets.get("book"), session)
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
                "lag_s": max(now - entry.ts_ingest / 1e9, 0.0) if entry and any(lag.values()) else 0.0,
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


def _is_stale(blob: bytes) -> bool:
    return decode_out(blob).stale
