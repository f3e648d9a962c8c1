"""`mbo keys add|list|revoke`: API keys of the gateways, hashed in the broker."""

from __future__ import annotations

import argparse
import json
import re
import secrets
import time

from services.status import add_broker_options, broker_url
from shared.broker import Broker
from shared.errors import BrokerLost, UsageError

KEY_BYTES = 32
SHOWN = 12  # characters of a hash that name a key
RESERVED = "cookie-secret"  # a field of the same hash: what gateways sign cookies with
_LIFE = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
CHANNELS = ("bbo", "book", "trades", "mbo", "bars", "status", "history", "export", "pipeline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_broker_options(parser, "data folder of a running `mbo up` or demo")
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|revoke")
    add = actions.add_parser("add", help="make a key and print it, once")
    add.add_argument("name", help="whose it is")
    add.add_argument(
        "--symbols",
        nargs="+",
        default=["*"],
        metavar="PATTERN",
        help="symbols it may read, such as CL* ES*, or with commas (default all)",
    )
    add.add_argument(
        "--channels",
        nargs="+",
        default=["*"],
        metavar="CHANNEL",
        help=f"of {', '.join(CHANNELS)} (default all)",
    )
    add.add_argument("--streams", type=int, help="streams at once")
    add.add_argument("--expires", metavar="90d", help="how long it lives: 30m, 12h, 90d (default for ever)")
    listed = actions.add_parser("list", help="all keys: hash, name, scopes, expiry")
    listed.add_argument("--json", action="store_true", help="one JSON list")
    revoke = actions.add_parser("revoke", help="remove a key: its streams end within 5 s")
    revoke.add_argument("key", help="name, or the beginning of the hash as `list` shows it")


def run(args: argparse.Namespace) -> int:
    broker = Broker(broker_url(args.broker, args.data), args.prefix, name="keys")
    try:
        return {"add": _add, "list": _list, "revoke": _revoke}[args.action](broker, args)
    except BrokerLost as error:
        raise UsageError(f"{error}; is the pipeline running? say --broker or --data") from error
    finally:
        broker.close()


def _rows(broker: Broker) -> dict[str, dict[str, object]]:
    table = broker.hash(broker.keys.api_keys)
    return {name: json.loads(blob) for name, blob in table.items() if name != RESERVED}


def _add(broker: Broker, args: argparse.Namespace) -> int:
    from hashlib import sha256

    symbols, channels = (",".join(words).split(",") for words in (args.symbols, args.channels))
    unknown = [name for name in channels if name not in (*CHANNELS, "*")]
    if unknown:
        raise UsageError(f"--channels: {unknown[0]!r} is none of {', '.join(CHANNELS)}")
    if any(row.get("name") == args.name for row in _rows(broker).values()):
        raise UsageError(f"there is a key named {args.name!r}: revoke it first, or choose another name")
    key = f"mbo_{secrets.token_urlsafe(KEY_BYTES)}"
    now = time.time()
    row = {
        "name": args.name, "scopes": {"symbols": symbols, "channels": channels},
        "limits": {"streams": args.streams} if args.streams is not None else {},
        "expires": now + _life(args.expires) if args.expires else None, "created": now,
    }  # fmt: skip
    broker.call("HSET", broker.keys.api_keys, sha256(key.encode()).hexdigest(), json.dumps(row))
    print(key)
    return 0


def _life(text: str) -> int:
    match = _LIFE.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise UsageError(f"--expires {text!r}: write it as 30m, 12h or 90d")
    return int(match[1]) * _SECONDS[match[2]]


def _list(broker: Broker, args: argparse.Namespace) -> int:
    rows = _rows(broker)
    if args.json:
        print(json.dumps([{"hash": hashed, **row} for hashed, row in rows.items()]))
        return 0
    for hashed, row in sorted(rows.items(), key=lambda item: str(item[1].get("name"))):
        scopes = row.get("scopes") or {}
        assert isinstance(scopes, dict)
        expires = row.get("expires")
        until = (
            time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(float(str(expires)))) if expires else "for ever"
        )
        print(f"{hashed[:SHOWN]}  {row.get('name')}  symbols {','.join(scopes.get('symbols', []))}  "
              f"channels {','.join(scopes.get('channels', []))}  {until}")  # fmt: skip
    return 0


def _revoke(broker: Broker, args: argparse.Namespace) -> int:
    found = [
        hashed for hashed, row in _rows(broker).items()
        if row.get("name") == args.key or (len(args.key) >= 8 and hashed.startswith(args.key))
    ]  # fmt: skip
    if len(found) != 1:
        raise UsageError(f"{args.key!r} names {len(found)} keys: see `mbo keys list`")
    broker.call("HDEL", broker.keys.api_keys, found[0])
    print(f"revoked {found[0][:SHOWN]}")
    return 0
