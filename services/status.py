"""`mbo status`: shards, owners, epochs, offsets, lag, rates, image age, trim floor and memory of a running pipeline."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from shared.broker import Broker
from shared.errors import BrokerLost, UsageError
from shared.pipeline import overview

SAMPLE_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--broker", default=os.environ.get("MBO_BROKER", ""), help="URL [MBO_BROKER; default: of --data]"
    )
    parser.add_argument("--prefix", default="", help="key prefix")
    parser.add_argument(
        "--data", type=Path, default=Path("mbo-data"), help="data folder of a running `mbo up` or demo"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def broker_url(broker: str, data: Path) -> str:
    """The URL to talk to: the one given, or the embedded broker of a data folder; UsageError if nothing is there."""
    if broker:
        return broker
    socket = (data / "broker" / "broker.sock").resolve()
    if not socket.exists():
        raise UsageError(f"no running pipeline in {data}: say --data or --broker")
    return f"unix://{socket}"


COLUMNS = (
    ("shard", 6), ("owner", 30), ("epoch", 7), ("end", 14), ("rate/s", 10), ("book lag", 10), ("persist lag", 13),
    ("seconds", 9), ("image", 8), ("floor", 14),
)  # fmt: skip


FIELDS = {"end": "in", "rate/s": "rate", "seconds": "lag_s", "image": "image_age_s", "floor": "trim_floor"}


def _cell(row: dict[str, Any], name: str) -> str:
    if name.endswith(" lag"):
        reader = row["readers"].get(name.removesuffix(" lag"))
        return "-" if reader is None else str(reader["lag"])
    value = row[
        {
            "end": "in",
            "rate/s": "rate",
            "seconds": "lag_s",
            "image": "image_age_s",
            "floor": "trim_floor",
        }.get(name, name)
    ]
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def run(args: argparse.Namespace) -> int:
    broker = Broker(broker_url(args.broker, args.data), args.prefix, name="status")
    try:
        first = overview(broker)
        time.sleep(SAMPLE_S)
        now = overview(broker, before=first)
    except BrokerLost as error:
        raise UsageError(f"{error}; is the pipeline running?") from error
    finally:
        broker.close()
    if args.json:
        print(json.dumps(now))
        return 0
    for feed in now["feeds"]:
        owner = feed["owner"] or "-"
        print(
            f"{feed['feed']}  session {feed['session']} {feed['state']}  policy {feed['policy']}  owner {owner}"
        )
        print("  " + "".join(f"{name:>{width}}" for name, width in COLUMNS))
        for row in feed["shards"]:
            cells = [_cell(row, name) for name, _ in COLUMNS]
            stale = "  STALE" if row["stale"] else ""
            print(
                "  "
                + "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
                + stale
            )
    memory = now["memory"]
    print(f"broker {memory['used_bytes'] / 1e6:.0f} MB of {memory['limit_bytes'] / 1e6:.0f} MB   processes: " +
          ", ".join(sorted(proc["id"] for proc in now["processes"])))  # fmt: skip
    return 0
