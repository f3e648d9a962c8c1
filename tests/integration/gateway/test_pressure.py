"""Slow clients, hostile connections and limits: whoever misbehaves is told or cut off, the others never notice."""

from __future__ import annotations

import contextlib
import gc
import re
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from services.gateway import close_codes
from shared.broker import Broker
from tests.support import eventually
from tests.support.feed import Feed
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.mbo import record, rows
from tests.support.sse import Got, Stream, blocks, book_sides, fold

READ = 1 << 20
GOOD = 100  # clients that must not notice
SLOW_FOR_S = 8.0
SLOW_READ_BYTES = 3072  # each tenth of a second, of about 200 KB/s that come
STALE_AT_MOST_S = 2.5
CHANGES = 50  # of the book while the hostile connect
LARGE_POST = b"POST /v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LARGE_POST += b"Content-Length: 300000\r\n\r\n"


@pytest.fixture
def feed(broker: Broker) -> Feed:
    return Feed(broker)


@pytest.fixture
def gateway(broker_url: str, prefix: str, feed: Feed) -> Iterator[Gateway]:
    settings = {
        "client_budget_bytes": 16_384,
        "slow_after_s": 2.0,
        "header_timeout_s": 1.0,
        "max_streams": GOOD,
    }
    with Gateway(broker_url, prefix, **settings) as running:
        running.caught_up(feed)
        yield running


class Sloth:
    """A client on a bare socket with a small receive buffer; reads only when told."""

    def __init__(self, gateway: Gateway, query: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", gateway.port))
        self.socket.sendall(
            f"GET /v1/stream?{query} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n\r\n".encode()
        )
        self.raw = b""

    def read_until(self, mark: bytes) -> None:
        while mark not in self.raw:
            part = self.socket.recv(READ)
            if not part:
                return
            self.raw += part

    def events(self) -> list[Got]:
        body = self.raw.partition(b"\r\n\r\n")[2]
        text = b""
        while body:
            line, _, body = body.partition(b"\r\n")
            length = int(line, 16)
            if length == 0 or len(body) < length:
                break
            text, body = text + body[:length], body[length + 2 :]
        return list(blocks(text.decode()))

    def close(self) -> None:
        self.socket.close()


def churn(feed: Feed, entries: int, start: int = 1) -> None:
    """Each entry changes 60 levels: about 4 KB of delta."""
    for n in range(start, start + entries):
        changes = [record("A", "B", 50 + level / 10, 1 + n % 9, n * 1000 + level) for level in range(60)]
        feed.records(rows(*changes))


def test_a_slow_client_is_conflated_and_has_the_true_book_while_fast_ones_get_everything(
    gateway: Gateway, feed: Feed
) -> None:
    fast = Stream(gateway.url, "symbols=ONE&channels=book&depth=all")
    slow = Sloth(gateway, "symbols=ONE&channels=book&depth=all")
    fast.first("snapshot")
    slow.read_until(b"heartbeat")
    churn(feed, 200)
    fast.until_id("test.feed", 0, feed.ordinals[0])
    assert gateway.service.hub.laggards.clients
    slow.read_until(f"0.{feed.ordinals[0]}\n".encode())
    expected = book_sides(gateway.json("/v1/book/ONE?depth=all"))
    for events in (fast.events, slow.events()):
        (view,) = fold(events).values()
        assert {side: view[side] for side in ("bids", "asks")} == expected
    assert sum(event.name == "snapshot" for event in slow.events()) >= 2
    assert len(slow.events()) < len(fast.events)
    assert len(fast.all("snapshot")) == 1
    slow.close()


def test_a_client_that_reads_a_sixth_of_what_comes_is_about_two_seconds_behind_at_most(
    gateway: Gateway, feed: Feed
) -> None:
    slow = Sloth(gateway, "symbols=ONE&channels=book&depth=all")
    slow.read_until(b"heartbeat")
    ages_s: list[float] = []
    end = time.monotonic() + SLOW_FOR_S
    entries = 0
    while (now := time.monotonic()) < end:
        churn(feed, 1, entries)
        entries += 1
        if entries % 5 == 0:
            before = len(slow.raw)
            slow.raw += slow.socket.recv(SLOW_READ_BYTES)
            stamps = re.findall(rb'"stamps":\["(\d+)"', slow.raw[before:])
            ages_s += [time.time() - int(due) / 1e9 for due in stamps]
        time.sleep(max(0.0, now + 0.02 - time.monotonic()))
    assert max(ages_s) > 0.3, "it was not slow"
    assert max(ages_s) < STALE_AT_MOST_S
    slow.close()


def test_a_client_that_is_still_reading_its_first_snapshot_is_not_slow(gateway: Gateway, feed: Feed) -> None:
    for n in range(10):
        feed.records(rows(*(record("A", "B", 50 + i / 10, 1, 1 + n * 1000 + i) for i in range(1000))))
    gateway.caught_up(feed)
    gateway.json("/v1/book/ONE?level=3")  # now a snapshot of its orders comes with hello
    reader = Sloth(gateway, "symbols=ONE&channels=trades,mbo")
    eventually(lambda: any(client.ready for client in gateway.service.hub.clients))
    feed.records(rows(record("T", "B", 50, 1, 1), record("A", "B", 49, 1, 99_999)))
    eventually(lambda: gateway.service.hub.laggards.clients)
    reader.read_until(f"0.{feed.ordinals[0]}\n".encode())
    assert [event.name for event in reader.events()] == ["hello", "snapshot", "heartbeat", "trade", "mbo"]
    reader.close()


def test_trades_reach_a_client_that_was_slow_for_a_moment_without_loss(gateway: Gateway, feed: Feed) -> None:
    slow = Sloth(gateway, "symbols=ONE&channels=trades,bbo")
    slow.read_until(b"heartbeat")
    for n in range(1, 81):
        feed.records(rows(*(record("T", "B", 10, n, 1) for _ in range(15))))
    gateway.caught_up(feed)
    slow.read_until(f"0.{feed.ordinals[0]}\n".encode())
    trades = [event.data["ordinal"] for event in slow.events() if event.name == "trade"]
    assert trades == list(range(3, 3 + 80 * 15))
    slow.close()


def test_who_never_reads_gets_bye_slow_and_is_closed(gateway: Gateway, feed: Feed) -> None:
    slow = Sloth(gateway, "symbols=ONE&channels=book,mbo&depth=all")
    slow.read_until(b"heartbeat")
    churn(feed, 250)
    eventually(lambda: not gateway.service.hub.clients)
    slow.read_until(b"\r\n0\r\n\r\n")
    names = [event for event in slow.events() if event.name == "bye"]
    assert [event.data["reason"] for event in names] == ["slow"]
    slow.close()


def test_a_slow_loris_is_cut_off_and_good_clients_do_not_notice(gateway: Gateway, feed: Feed) -> None:
    _hostile(gateway, feed, connections=100)
    eventually(lambda: len(gateway.service.hub.clients) == GOOD)


@pytest.mark.slow
def test_ten_thousand_half_open_connections_disturb_nobody(broker_url: str, prefix: str, feed: Feed) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= 12_000, f"this proof needs 12,000 open files, the hard limit is {hard}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with GatewayProcess(broker_url, prefix, header_timeout_s=8.0) as gateway:
            _hostile(gateway, feed, connections=10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _hostile(gateway: Gateway | GatewayProcess, feed: Feed, connections: int) -> None:
    """`connections` that never finish their request, every other one a slow loris; 100 good clients lose nothing."""
    good = [Stream(gateway.url, "symbols=ONE&channels=book") for _ in range(GOOD)]
    for stream in good:
        stream.first("heartbeat")
    bad = []
    for index in range(connections):
        each = socket.create_connection(("127.0.0.1", gateway.port))
        if index % 2:
            each.sendall(b"GET /v1/stream?symbols=ONE HTTP/1.1\r\nHost: 127")
        bad.append(each)
        if index % (connections // CHANGES) == 0:
            feed.records(rows(record("M", "B", 77, 1 + len(bad), 1)))
    for stream in good:
        stream.until_id("test.feed", 0, feed.ordinals[0])
    expected = book_sides(gateway.json("/v1/book/ONE"))
    for stream in good:
        (view,) = fold(stream.events).values()
        assert {side: view[side] for side in ("bids", "asks")} == expected
        assert len(stream.all("snapshot")) == 1
    for each in bad:
        each.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert each.recv(100) == b""
        each.close()
    assert not any(stream.ended or stream.all("bye") for stream in good)


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"HTTP/1.1 431"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(3000)),
            b"HTTP/1.1 431",
        ),
        (
            LARGE_POST + b"x" * 200_000,
            b"HTTP/1.1 413",
        ),
        (b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 431"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"HTTP/1.1 400"),
        (b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 404"),
        (b"GET /v1/stream?symbols=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 4"),
        (b"GET /v1/book/ONE HTTP/1.1\r\n\r\n", b"HTTP/1.1 4"),
        (b"GET /v1/stream?symbols=ONE HTTP/1.0\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 505"),
        (b"GET /docs HTTP/1.0\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 505"),
        (
            b"GET /v1/stream?symbols=ONE HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            b"HTTP/1.1 400",
        ),
        (b"GET /v1/book/ONE HTTP/1.1\r\nHost: evil.test\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400"),
    ],
    ids=[
        "long-header",
        "many-headers",
        "large-body",
        "long-path",
        "tls-hello",
        "odd-path",
        "odd-query",
        "no-host",
        "old-stream",
        "old-page",
        "two-hosts-stream",
        "two-hosts",
    ],
)
def test_a_request_over_a_limit_is_refused(gateway: Gateway, request_bytes: bytes, answer: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as each:
        each.settimeout(10)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it had seen enough
            each.sendall(request_bytes)
        found = b""
        while len(found) < len(answer):
            try:
                part = each.recv(READ)
            except ConnectionResetError:
                break
            if not part:
                break
            found += part
        assert found.startswith(answer) or (found == b"" and answer.endswith((b"431", b"413")))
        if found.startswith((b"HTTP/1.1 431", b"HTTP/1.1 413")):
            assert b"application/problem+json" in found


def test_too_many_streams_get_bye_with_a_time_to_come_back(gateway: Gateway) -> None:
    streams = [Stream(gateway.url, "symbols=ONE") for _ in range(GOOD)]
    for stream in streams:
        stream.first("hello")
    extra = Stream(gateway.url, "symbols=ONE")
    bye = extra.first("bye")
    assert (extra.status, bye["reason"]) == (200, "overload")
    assert bye["retry_ms"] > 0


def test_a_stream_has_a_maximum_age_and_resumes(broker_url: str, prefix: str, feed: Feed) -> None:
    with Gateway(broker_url, prefix, max_age_s=1.0) as gateway:
        gateway.caught_up(feed)
        stream = Stream(gateway.url, "symbols=ONE&channels=trades")
        assert stream.first("bye")["reason"] == "max_age"
        again = Stream(gateway.url, "symbols=ONE&channels=trades", last_id=stream.id)
        assert again.first("hello")["views"][0]["resumed"]


def test_an_idle_stream_has_a_heart(broker_url: str, prefix: str, feed: Feed) -> None:
    with Gateway(broker_url, prefix, heartbeat_s=0.5) as gateway:
        gateway.caught_up(feed)
        stream = Stream(gateway.url, "symbols=ONE&channels=trades&compress=1")
        eventually(lambda: len(stream.all("heartbeat")) >= 3)
        assert stream.all("heartbeat")[-1]["feeds"][0]["state"] == "open"
        stream.check()


def test_it_says_starting_until_the_broker_answers(prefix: str) -> None:
    from services.gateway.service import GatewayService
    from services.gateway.settings import GatewaySettings

    service = GatewayService(GatewaySettings(broker="unix:///nonexistent.sock", prefix=prefix, port=0))
    service.http.start()
    try:
        stream = Stream(service.http.address, "symbols=ONE")
        assert stream.first("bye")["reason"] == "starting"
        stream.close()
    finally:
        service.close()


def test_stopped_while_starting_it_has_nobody_to_say_goodbye_to(prefix: str) -> None:
    """No warning either: a coroutine that nobody runs is an error in these tests."""
    from services.gateway.service import GatewayService
    from services.gateway.settings import GatewaySettings

    service = GatewayService(GatewaySettings(broker="unix:///nonexistent.sock", prefix=prefix, port=0))
    service.drain()
    service.close()
    with pytest.raises(RuntimeError, match="does not serve"):
        service.http.submit(service.hub.goodbye(close_codes.DRAIN, 0.0), 1.0)
    del service
    gc.collect()


def test_a_lost_broker_keeps_streams_open_and_they_go_on(
    broker_url: str, prefix: str, gateway: Gateway, feed: Feed
) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=book")
    stream.first("snapshot")
    with contextlib.closing(Broker(broker_url)) as admin:
        for line in admin.call("CLIENT", "LIST").decode().splitlines():
            facts = dict(part.split("=", 1) for part in line.split())
            if facts["name"] == "gateway":
                admin.call("CLIENT", "KILL", "ID", facts["id"])
    feed.records(rows(record("A", "B", 88, 1, 1)))
    assert stream.first("delta")["bids"] == [["88", 1, 1]]
