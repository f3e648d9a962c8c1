"""The broker's users can do what their service does, and nothing of another's; also behind TLS."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from services import broker_users
from shared.broker import Broker
from shared.errors import BrokerError
from shared.wire.keys import Keys
from tests.deploy.tools import ROOT, run, tool
from tests.support import eventually


class Server:
    """A redis-server with the users' ACL on a unix socket, or with `tls` on a port too, and then on no plain one."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self.folder = folder
        self.tls_port = 20_000 + secrets.randbelow(10_000) if tls else 0
        options = ["--port", "0"]
        if tls:
            file = str(_certificate(folder, "cert.pem"))
            options += ["--bind", "127.0.0.1", "--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
            options += ["--tls-cert-file", file, "--tls-key-file", f"{file}.key", "--tls-ca-cert-file", file]
        self.passwords = broker_users.write(folder / "secrets")
        self.socket = str(folder / "s")
        acl = str(folder / "secrets" / "acl" / "users.acl")
        command = [tool("redis-server"), str(ROOT / "shared" / "broker.conf"), "--dir", str(folder), "--aclfile", acl,
                   "--unixsocket", self.socket, *options]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._has_its_users)  # the socket is there before the users are read

    def _has_its_users(self) -> bool:
        probe = redis.Redis(unix_socket_path=self.socket, username="probe", password="none")
        try:
            return bool(probe.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            probe.close()

    def url(self, user: str) -> str:
        if self.tls_port:
            return self.tls_url(user, self.folder / "cert.pem")
        return f"unix://{user}@{self.socket}"

    def tls_url(self, user: str, authority: Path) -> str:
        return f"rediss://{user}@localhost:{self.tls_port}/0?ssl_ca_certs={authority}"

    def broker(self, user: str) -> Broker:
        return Broker(self.url(user), name="test", password=self.passwords[user])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def _certificate(folder: Path, name: str) -> Path:
    """A certificate for localhost that is its own authority, with its key beside it."""
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{name}.key", "-out", name, cwd=folder)  # fmt: skip
    return folder / name


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="mbo-acl-") as name:
        made = Server(Path(name), tls=getattr(request, "param", False))
        yield made
        made.close()


def _refusals(server: Server) -> list[Any]:
    client = redis.Redis(
        unix_socket_path=server.socket, username="operator", password=server.passwords["operator"]
    )
    found: Any = client.acl_log()
    client.close()
    return [(row["username"], row["reason"], row["object"]) for row in found]


def test_a_user_cannot_write_what_another_service_writes(server: Server) -> None:
    keys = Keys()
    refused = (
        ("book", ("HSET", keys.feed("f", "meta"), "shards", 1)),
        ("book", ("XADD", keys.shard("f", 0, "in"), "1-1", "d", "x")),
        ("ingest", ("HSET", keys.shard("f", 0, "pos"), "book", "1-1")),
        ("gateway", ("XADD", keys.shard("f", 0, "out"), "1-1", "d", "x")),
        ("persist", ("XADD", keys.shard("f", 0, "in"), "1-1", "d", "x")),
        ("persist", ("HGETALL", keys.api_keys)),
        ("ingest", ("HGETALL", keys.api_keys)),
        *((user.name, ("FLUSHALL",)) for user in broker_users.USERS),
        *((user.name, ("CONFIG", "SET", "maxmemory", "1")) for user in broker_users.USERS),
        *((user.name, ("ACL", "LIST")) for user in broker_users.USERS),
    )
    for user, command in refused:
        broker = server.broker(user)
        with pytest.raises(BrokerError, match="no permissions"):
            broker.call(*command)
        broker.close()


def test_nobody_comes_in_without_a_password(server: Server) -> None:
    for url in (f"unix://{server.socket}", server.url("ingest")):
        broker = Broker(url, name="test", password="wrong" if "@" in url else None)
        with pytest.raises(BrokerError):
            broker.call("HGETALL", "x")
        broker.close()
    probe = redis.Redis(unix_socket_path=server.socket, username="probe", password="none")
    assert probe.ping()
    with pytest.raises(redis.exceptions.NoPermissionError):
        probe.get("x")
    probe.close()


def test_rotation_keeps_the_old_password_until_the_next_run(tmp_path: Path) -> None:
    first = broker_users.write(tmp_path)
    acl = tmp_path / "acl" / "users.acl"
    assert broker_users.write(tmp_path) == first, "passwords that are there stay"
    rotated = broker_users.write(tmp_path, ["book"])
    assert rotated["book"] != first["book"]
    assert {user: word for user, word in rotated.items() if user != "book"} == {
        user: word for user, word in first.items() if user != "book"
    }
    line = next(row for row in acl.read_text().splitlines() if row.startswith("user book"))
    assert line.count("#") == 2
    broker_users.write(tmp_path)
    line = next(row for row in acl.read_text().splitlines() if row.startswith("user book"))
    assert line.count("#") == 1
    assert not [word for word in first.values() if word in acl.read_text()]


def test_a_password_is_rotated_on_a_running_broker(server: Server) -> None:
    """The guide's steps: for a while both are valid, so that who is cut off comes back; then the old one is none."""

    def load() -> None:
        operator = server.broker("operator")
        operator.call("ACL", "LOAD")
        operator.close()

    def may_enter(password: str) -> bool:
        broker = Broker(server.url("book"), name="test", password=password)
        try:
            return bool(broker.call("SMEMBERS", broker.keys.feeds) == [])
        except BrokerError:
            return False
        finally:
            broker.close()

    old, folder = server.passwords["book"], server.folder / "secrets"
    new = broker_users.write(folder, ["book"])["book"]
    assert (may_enter(old), may_enter(new)) == (True, False), "the broker has not read it yet"
    load()
    assert (may_enter(old), may_enter(new)) == (True, True)
    broker_users.write(folder)
    load()
    assert (may_enter(old), may_enter(new)) == (False, True)


def _start(server: Server, user: str, *options: str) -> subprocess.Popen[bytes]:
    password = server.folder / "secrets" / user / "password"
    command = [sys.executable, "-m", f"services.{user}", "--broker", server.url(user), "--log", "json",
               "--broker-password-file", str(password), *options]  # fmt: skip
    with open(server.folder / f"{user}.log", "wb") as log:
        return subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)


def _finished(broker: Broker) -> bool:
    keys = broker.keys
    feeds = [name.decode() for name in broker.call("SMEMBERS", keys.feeds)]
    for feed in feeds:
        meta = broker.hash(keys.feed(feed, "meta"))
        if meta.get("state") != "ended":
            return False
        for shard in range(int(meta["shards"])):
            tail = broker.last_ids([keys.shard(feed, shard, "in")])[0]
            read = broker.hash(keys.shard(feed, shard, "pos"))
            if tail is not None and {read.get("book"), read.get("persist")} != {tail.id.decode()}:
                return False
    return bool(feeds)


@pytest.mark.slow
@pytest.mark.parametrize("server", [False, True], indirect=True, ids=["unix socket", "rediss"])
def test_every_service_works_as_its_user(server: Server) -> None:
    data = str(server.folder / "data")
    processes = [
        _start(server, "ingest", "--messages", "20000", "--shards", "2", "--data", data),
        _start(server, "book", "--image-s", "0.5"),
        _start(server, "persist", "--data", data),
        _start(server, "gateway", "--insecure", "--port", "0"),
    ]
    operator = server.broker("operator")
    try:
        eventually(lambda: _finished(operator), timeout_s=90)
        rows = operator.hash(operator.keys.procs)
        admin = next(json.loads(row)["admin"] for name, row in rows.items() if name.startswith("gateway"))

        def served() -> bool:
            with urllib.request.urlopen(f"{admin}/readyz", timeout=5) as answer:
                return bool(json.load(answer)["feeds"])

        eventually(served, timeout_s=30)
        logs = "".join(path.read_text() for path in server.folder.glob("*.log"))
        assert "no permissions" not in logs
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(40)
        operator.close()
    assert _refusals(server) == [], "ACL LOG: a service wanted what services/broker_users.py does not give it"


@pytest.mark.parametrize("server", [True], indirect=True, ids=["rediss"])
def test_rediss_checks_the_certificate(server: Server) -> None:
    trusted = server.broker("book")
    assert trusted.call("SMEMBERS", trusted.keys.feeds) == []
    trusted.close()
    other = server.tls_url("book", _certificate(server.folder, "other.pem"))
    stranger = Broker(other, name="test", password=server.passwords["book"])
    with pytest.raises(Exception, match=r"(?i)certificate"):
        stranger.call("PING")
    stranger.close()
