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
    add_broker_options(parser, "data folder of a running `mbo up` or demo")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def add_broker_options(parser: argparse.ArgumentParser, data: str) -> None:
    """Which pipeline a command speaks to: the options and variables of `mbo up`. `data`: help of --data."""
    said = os.environ.get
    parser.add_argument(
        "--broker",
        default=said("MBO_BROKER", ""),
        help="URL [MBO_BROKER; default: the embedded one of --data]",
    )
    parser.add_argument("--prefix", default=said("MBO_PREFIX", ""), help="key prefix [MBO_PREFIX]")
    parser.add_argument(
        "--data", type=Path, default=Path(said("MBO_DATA", "mbo-data")), help=f"{data} [MBO_DATA]"
    )


def broker_url(broker: str, data: Path) -> str:
    """The URL to talk to: the one given, or the embedded broker of a data folder; UsageError if nothing is there."""
    if broker not in ("", "embedded"):
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


def limits(status: dict[str, Any], feed: str) -> list[str]:
    """What bounds a feed and how much of it is used, as its ingest process says; [] if none runs."""
    details = [proc.get("detail") or {} for proc in status["processes"] if proc["role"] == "ingest"]
    rows = [row for detail in details for row in detail.get("feeds", ()) if row["feed"] == feed]
    row = next((row for row in rows if row["state"] != "standby" and "limits" in row), None)
    if row is None:
        return []
    found = row["limits"]
    said = ["backlog {:,} of {:,} records".format(*found["backlog_records"])]
    if found["broker_bytes"][1]:
        used, marks = found["broker_bytes"][0] / 1e6, [mark / 1e6 for mark in found["marks_bytes"]]
        said.append(f"broker {used:,.0f} MB of marks at {marks[0]:,.0f} and {marks[1]:,.0f} MB")
    if "journal_bytes" in found:
        back = found["feed_back_records"]
        said.append("journal {:,.0f} of {:,.0f} MB".format(*(size / 1e6 for size in found["journal_bytes"])))
        said.append(f"fed back {back['ahead']:,} of {back['window']:,} records, {back['short']:,} to come")
        said.append(f"{found['journaled_items']:,} items in the journal alone")
    return [*said, f"held back: {row['held_back']}"] if row["held_back"] else said


def _cell(row: dict[str, Any], name: str) -> str:
    if name.endswith(" lag"):
        reader = row["readers"].get(name.removesuffix(" lag"))
        return "-" if reader is None else str(reader["lag"])
    value = row[FIELDS.get(name, name)]
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
        if said := limits(now, feed["feed"]):
            print("  " + " · ".join(said))
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
