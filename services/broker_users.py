"""The broker's users: one a service, each with the keys and commands it needs and nothing else.

`python -m services.broker_users --out DIR` makes the passwords that are not there yet and the broker's ACL file
(`acl/users.acl`, which holds only SHA-256 of 256 random bits). compose runs it before the broker; for Kubernetes
`--secrets` prints the same as Secrets. Run again with `--rotate USER` it replaces a password and keeps the old one
valid until the next run without it: docs/operations.md says how to rotate keys without a stop.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shared.errors import UsageError
from shared.runner import guarded
from shared.settings import Parser
from shared.wire.keys import Keys

# Every service: connect, be told apart, load scripts, read.
COMMON = (
    "ping", "auth", "hello", "select", "info", "time", "cluster|slots",
    "multi", "exec", "discard", "script|load", "evalsha", "xread", "xrange", "xrevrange", "hget", "hmget", "hgetall",
    "hlen", "exists", "smembers",
)  # fmt: skip
# CLIENT SETINFO is newer than Redis 7.0, which refuses to name it: all of CLIENT but what touches other connections.
CLIENT = "+client -client|kill -client|pause -client|unpause -client|list -client|no-evict"
GLOBAL = ("feeds", "procs", "keys", "history")
FEED = ("meta", "lease", "ckpt", "instruments", "workers")
SHARD = ("writer", "in", "back", "out", "lease", "pos", "img")


class User(NamedTuple):
    """Key names as in shared/wire/README.md; `writes` may be read too."""

    name: str
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    commands: tuple[str, ...]


USERS = (
    User("ingest", ("feeds", "procs", "meta", "lease", "ckpt", "instruments", "writer", "in", "back"), ("pos", "img"),
         ("hset", "hdel", "sadd", "xadd", "xtrim", "config|get", "bgrewriteaof")),
    User("book", ("procs", "workers", "lease", "out", "pos", "img"), ("feeds", "meta", "instruments", "in", "history"),
         ("hset", "hdel", "xadd", "xtrim", "del", "unlink", "expire", "persist")),
    User("gateway", ("procs", "keys"), (*GLOBAL, *FEED, *SHARD), ("hset", "hdel", "hsetnx")),
    User("persist", ("procs", "history", "pos"), ("feeds", "meta", "in", "back"), ("hset", "hdel")),
    User("operator", ("keys", "procs"), (*GLOBAL, *FEED, *SHARD),
         ("hset", "hdel", "hsetnx", "config|get", "acl|load", "acl|log")),
)  # fmt: skip
# Answers PING and nothing else: health checks of the broker hold no password.
PROBE = "user probe on nopass sanitize-payload resetkeys resetchannels -@all +ping"


def pattern(name: str, prefix: str = "") -> list[str]:
    """Key patterns of one name of the wire README, from the module that names all keys."""
    keys = Keys(prefix)
    if name in GLOBAL:
        return [
            {"feeds": keys.feeds, "procs": keys.procs, "keys": keys.api_keys, "history": keys.history}[name]
        ]
    found = keys.feed("*", name)  # `*` stands for a feed as well as for `feed:NN`
    return [found, f"{found}:*"] if name == "img" else [found]


def rule(user: User, hashes: Sequence[str], prefix: str = "") -> str:
    """The ACL line of a user with these SHA-256 of valid passwords."""
    writes = [f"~{key}" for name in user.writes for key in pattern(name, prefix)]
    reads = [f"%R~{key}" for name in user.reads if name not in user.writes for key in pattern(name, prefix)]
    commands = [f"+{name}" for name in (*COMMON, *user.commands)]
    parts = ["user", user.name, "on", "sanitize-payload", *(f"#{each}" for each in hashes), "resetchannels",
             *writes, *reads, "-@all", CLIENT, *commands]  # fmt: skip
    return " ".join(parts)


def acl_file(hashes: dict[str, list[str]], prefix: str = "") -> str:
    """The whole file; the default user is off."""
    lines = ["user default off", PROBE, *(rule(user, hashes[user.name], prefix) for user in USERS)]
    return "".join(line + "\n" for line in lines)


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)
    os.replace(staged, path)


def write(folder: Path, rotate: Sequence[str] = (), prefix: str = "") -> dict[str, str]:
    """Passwords in `folder/USER/password`, the ACL in `folder/acl/users.acl`; the passwords by user.

    A password that is there stays; one in `rotate` is replaced, and the old one goes on being valid. Raises UsageError.
    """
    unknown = set(rotate) - {user.name for user in USERS}
    if unknown:
        raise UsageError(f"no user {', '.join(sorted(unknown))}: {', '.join(user.name for user in USERS)}")
    valid: dict[str, list[str]] = {}
    passwords: dict[str, str] = {}
    try:
        for user in USERS:
            path = folder / user.name / "password"
            old = path.read_text(encoding="ascii").strip() if path.exists() else ""
            new = secrets.token_hex(32) if not old or user.name in rotate else old
            if new != old:
                _write(path, new, 0o440)
            passwords[user.name] = new
            valid[user.name] = sorted({_hash(each) for each in (old, new) if each})
        _write(folder / "acl" / "users.acl", acl_file(valid, prefix), 0o444)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    return passwords


def secrets_manifest(folder: Path, passwords: dict[str, str]) -> str:
    """Kubernetes Secrets (JSON, which is YAML): the ACL for the broker, a password for each service."""

    def secret(name: str, key: str, value: str) -> dict[str, object]:
        encoded = base64.b64encode(value.encode()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "Opaque",
            "data": {key: encoded},
        }

    items = [
        secret("mbo-broker-acl", "users.acl", (folder / "acl" / "users.acl").read_text(encoding="ascii"))
    ]
    items += [secret(f"mbo-broker-{user}", "password", password) for user, password in passwords.items()]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m services.broker_users", description="Users and passwords of the broker.")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of passwords and ACL file"
    )
    parser.add_argument(
        "--rotate", nargs="*", default=[], metavar="USER", help="users that get a new password"
    )
    parser.add_argument("--prefix", default="", help="key prefix of the services")
    parser.add_argument("--secrets", action="store_true", help="print the same as Kubernetes Secrets")
    args: argparse.Namespace = parser.parse_args(None if argv is None else list(argv))
    passwords = write(args.out, args.rotate, args.prefix)
    if args.secrets:
        print(secrets_manifest(args.out, passwords))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
