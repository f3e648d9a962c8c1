"""`mbo backfill FEED --day D`: ingest a day again from Databento Historical, as a session marked `repaired`."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from pathlib import Path

from services.ingest.feed import Feed
from services.ingest.service import hold_data
from services.ingest.settings import IngestSettings
from services.ingest.sources.annotate import DAY_NS
from services.ingest.sources.historical import make_historical
from services.ingest.sources.options import HISTORICAL, SourceOptions
from services.status import add_broker_options, broker_url
from shared.broker import Broker
from shared.clock import Clock, SystemClock
from shared.errors import BrokerLost, UsageError

IDLE_S = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("feed", help="the feed with the gap")
    parser.add_argument("--day", required=True, metavar="YYYY-MM-DD", help="the day to ingest again (UTC)")
    add_broker_options(parser, "data folder; downloads are kept in it")
    parser.add_argument("--symbols", default="", help="comma list; default: those of the feed's own source")
    said = os.environ.get  # as ingest: its container and its variables are where this runs
    parser.add_argument(
        "--broker-password-file",
        default=said("MBO_BROKER_PASSWORD_FILE", ""),
        help="file that holds the broker's password [MBO_BROKER_PASSWORD_FILE]",
    )
    parser.add_argument(
        "--stype-in",
        default=said("MBO_STYPE_IN", "raw_symbol"),
        help="symbology of the symbols [MBO_STYPE_IN]",
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        default=said("MBO_KEY_FILE"),
        help="file with the API key, instead of DATABENTO_API_KEY [MBO_KEY_FILE]",
    )
    parser.add_argument("--batch", action="store_true", help="by a batch job instead of one stream")
    parser.add_argument("--yes", action="store_true", help="go on without asking when the cost is known")
    parser.add_argument("--historical-url", default="", help="address instead of Databento's own")


def _day(text: str) -> int:
    """Midnight UTC of a date, ns."""
    try:
        moment = dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        raise UsageError(f"--day {text!r}: give a date such as 2025-09-24") from None
    return int(moment.timestamp()) * 1_000_000_000


def run(args: argparse.Namespace, clock: Clock | None = None) -> int:
    """Download, ingest and end; UsageError if the feed is unknown or somebody else is writing it."""
    start = _day(args.day)
    clock = clock or SystemClock()
    url = broker_url(args.broker, args.data)
    login = IngestSettings(broker_password_file=args.broker_password_file)
    with_meta = Broker(url, args.prefix, name="backfill", password=login.broker_password())
    try:
        meta = with_meta.hash(with_meta.keys.feed(args.feed, "meta"))
    except BrokerLost as error:
        raise UsageError(f"{error}; is the pipeline running? say --broker or --data") from error
    finally:
        with_meta.close()
    if not meta:
        raise UsageError(f"no feed {args.feed!r} in this broker: `mbo status` lists them")
    with hold_data(args.data):
        return _repair(args, clock, url, meta, start)


def _repair(args: argparse.Namespace, clock: Clock, url: str, meta: dict[str, str], start: int) -> int:
    named = tuple(name for name in args.symbols.split(",") if name)
    source = make_historical(
        SourceOptions(
            source=(HISTORICAL,), dataset=meta["dataset"], start=start, end=start + DAY_NS, data=args.data,
            symbols=named or tuple(json.loads(meta["spec"]).get("symbols") or ()), stype_in=args.stype_in,
            key_file=args.key_file, historical_url=args.historical_url, batch=args.batch, yes=args.yes,
        ),
        repaired=True,
    )  # fmt: skip
    config = IngestSettings(
        broker=url, prefix=args.prefix, feed=args.feed, data=args.data, shards=int(meta["shards"]),
        policy=meta["policy"], readers=tuple(name for name in meta["readers"].split(",") if name),
        broker_password_file=args.broker_password_file,
    )  # fmt: skip
    feed = Feed(source, args.feed, config, clock, config.owner_name(), None)
    try:
        if not feed.start():
            raise UsageError(
                f"feed {args.feed} is being ingested now: stop that ingest first (a feed has one writer), "
                "then start it again: it begins a new session with a snapshot"
            )
        while not feed.has_ended:
            clock.sleep(min(feed.step(), IDLE_S))
        session, position = feed.publisher.session, feed.publisher.position
        feed.release()
    finally:
        feed.close()
    print(f"{args.feed} session {session}: {args.day} repaired, {position} items", file=sys.stderr)
    return 0
