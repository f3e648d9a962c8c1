"""`mbo status`: shards, owners, epochs, offsets, lag, rates, image age, trim floor and memory of a running pipeline."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from shared.broker import Broker
from shared.errors import BrokerLost, UsageError
from shared.pipeline import overview

SAMPLE_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", default="", help="URL; default: the embedded broker of --data")
    parser.add_argument("--prefix", default="", help="key prefix")
    parser.add_argument("--data", type=Path, default=Path("mbo-data"), help="data folder of a running `mbo up` or demo")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def broker_url(broker: str, data: Path) -> str:
    """The URL to talk to: the one given, or the embedded broker of a data folder; UsageError if nothing is there."""
    if broker:
        return broker
    socket = (data / "broker" / "broker.sock").resolve()
    if not socket.exists():
        raise UsageError(f"no running pipeline in {data}: say --data or --broker")
    return f"unix://{socket}"


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
        print(f"{feed['feed']}  session {feed['session']} {feed['state']}  policy {feed['policy']}  owner {feed['owner'] or '-'}")  # fmt: skip
        print(f"  {'shard':<6}{'owner':<30}{'epoch':>6}{'end':>13}{'rate/s':>10}{'lag book':>10}{'persist':>9}{'seconds':>9}{'image':>8}")
        for row in feed["shards"]:
            age = "-" if row["image_age_s"] is None else f"{row['image_age_s']:.0f}s"
            lag = {name: reader["lag"] for name, reader in row["readers"].items()}
            print(
                f"  {row['shard']:<6}{row['owner'] or '-':<30}{row['epoch']:>6}{row['in'] or 0:>13}{row['rate'] or 0:>10.0f}"
                f"{lag.get('book', 0):>10}{lag.get('persist', 0):>9}{row['lag_s']:>9.2f}{age:>8}{'  STALE' if row['stale'] else ''}"
            )
    memory = now["memory"]
    print(f"broker {memory['used_bytes'] / 1e6:.0f} MB of {memory['limit_bytes'] / 1e6:.0f} MB   processes: " +
          ", ".join(sorted(proc["id"] for proc in now["processes"])))  # fmt: skip
    return 0
