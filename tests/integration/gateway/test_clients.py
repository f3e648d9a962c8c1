"""Real clients: the README's snippets as they stand (curl, Node, Python), the client, `mbo watch`, `mbo keys`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from services.gateway.settings import GatewaySettings
from shared.broker import Broker
from shared.client import Client
from tests.support import eventually
from tests.support.feed import Feed
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.mbo import record, rows
from tests.support.sse import book_sides

README = Path(__file__).parents[3] / "services" / "gateway" / "README.md"


def snippet(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return str(found[-1])


@pytest.fixture
def feed(broker: Broker) -> Feed:
    feed = Feed(broker)
    feed.records(rows(record("A", "B", 99.5, 3, 1), record("A", "A", 100.5, 2, 2)))
    return feed


def trade(feed: Feed, n: int) -> None:
    feed.records(rows(record("A", "B", 90 + n, 1, 100 + n), record("T", "B", 90 + n, n, 100 + n)))


class Collected:
    """Events of a Client, gathered in a thread until its stream ends."""

    def __init__(self, client: Client) -> None:
        self.client, self.trades, self.names = client, [], []  # type: ignore[var-annotated]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for event in self.client:
            self.names.append(event.name)
            if event.name == "trade":
                self.trades.append(event.data["size"])

    def sides(self) -> dict[str, dict[str, tuple[int, int]]]:
        (book,) = self.client.books.values()
        return {"bids": {r[0]: r[1:] for r in book.bids}, "asks": {r[0]: r[1:] for r in book.asks}}


def test_the_client_keeps_a_true_book_over_a_restarted_gateway_and_misses_no_trade(
    broker_url: str, prefix: str, gateway: Gateway, feed: Feed
) -> None:
    got = Collected(Client(gateway.url, symbols="ONE", channels="book,trades", depth="all"))
    eventually(lambda: got.client.books)
    trade(feed, 1)
    eventually(lambda: got.trades == [1])
    port = gateway.port
    gateway.stop()
    trade(feed, 2)
    trade(feed, 3)
    with Gateway(broker_url, prefix, port=port) as again:
        again.caught_up(feed)
        eventually(lambda: got.trades == [1, 2, 3], timeout_s=40)
        trade(feed, 4)
        eventually(lambda: got.trades == [1, 2, 3, 4])
        assert got.client.connects >= 2
        assert got.sides() == book_sides(again.json("/v1/book/ONE?depth=all"))
        feed.end()
        assert again.service.drained()[0] == 200
        eventually(lambda: not got.thread.is_alive())
        assert got.names[-1] == "bye"
    got.client.close()


def test_curl_gets_events(gateway: Gateway, feed: Feed) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    command = snippet("sh").replace("$URL", gateway.url).replace("curl -N", f"{curl} -sN --max-time 3")
    text = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30).stdout
    assert "event: hello" in text
    assert '"bid":["99.5",3,1]' in text


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_javascript_snippet_keeps_a_true_book(gateway: Gateway, feed: Feed, tmp_path: Path) -> None:
    """On a small EventSource over Node's fetch (Node 20 has none); Chromium's own is below."""
    shim = """
    class EventSource {
      constructor(url) { this.listeners = {}; this.run(url); }
      addEventListener(name, listener) { this.listeners[name] = listener; }
      close() {}
      async run(url) {
        const answer = await fetch(url);
        let text = '';
        for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
          text += part;
          const blocks = text.split('\\n\\n');
          text = blocks.pop();
          for (const block of blocks) {
            const field = (l) => [l.slice(0, l.indexOf(':')), l.slice(l.indexOf(':') + 2)];
            const fields = Object.fromEntries(block.split('\\n').map(field));
            if (fields.data) this.listeners[fields.event]?.({ data: fields.data });
          }
        }
      }
    }
    """
    tail = """
    setInterval(() => {
      const [book] = books.values();
      if (book) console.log(JSON.stringify({ q: book.q, bids: [...book.bids], asks: [...book.asks] }));
    }, 20);
    """
    script = tmp_path / "client.mjs"
    script.write_text(
        f"const URL_OF_GATEWAY = {json.dumps(gateway.url)};\n{shim}\n{snippet('js')}\n{tail}",
        encoding="utf-8",
    )
    node = subprocess.Popen([str(shutil.which("node")), str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert node.stdout is not None
        assert json.loads(node.stdout.readline())["bids"] == [["99.5", [3, 1]]]
        trade(feed, 1)
        trade(feed, 2)
        gateway.caught_up(feed)
        expected = book_sides(gateway.json("/v1/book/ONE"))

        def same() -> bool:
            assert node.stdout is not None
            row = json.loads(node.stdout.readline())
            return {
                side: {px: tuple(rest) for px, rest in row[side]} for side in ("bids", "asks")
            } == expected

        eventually(same)
    finally:
        node.kill()
        node.wait()
        assert node.stdout is not None
        node.stdout.close()


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_chromium_s_eventsource_resumes_after_the_gateway_was_killed_and_started_again(
    broker_url: str, prefix: str, feed: Feed
) -> None:
    """The book is true again and no trade of the time between is missing or there twice."""
    node, script = shutil.which("node"), Path(__file__).with_name("eventsource.mjs")
    assert node, "node is not installed: `make browser`"
    with GatewayProcess(broker_url, prefix) as gateway:
        browser = subprocess.Popen(
            [node, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert browser.stdin is not None
        assert browser.stdout is not None
        code = snippet("js").replace("channels=book&", "channels=book,trades&")
        browser.stdin.write(json.dumps({"url": gateway.url, "code": code}) + "\n")
        browser.stdin.flush()
        told: list[dict[str, Any]] = []
        reading = threading.Thread(target=_collect, args=(browser.stdout, told), daemon=True)
        reading.start()
        try:
            eventually(lambda: told and told[-1]["bids"], timeout_s=60)
            trade(feed, 1)
            eventually(lambda: told[-1]["trades"] == [1])
            for first in (2, 5):
                gateway.kill()
                trade(feed, first)
                trade(feed, first + 1)
                gateway.start()
                eventually(lambda: len(told[-1]["trades"]) == first + 1, timeout_s=60)  # noqa: B023
                trade(feed, first + 2)
            eventually(lambda: told[-1]["trades"] == list(range(1, 8)))
            eventually(lambda: _sorted(told[-1]) == _levels(gateway.json("/v1/book/ONE")))
            assert told[-1]["opens"] >= 3
        finally:
            browser.stdin.close()
            browser.wait(30)
            reading.join(10)
            browser.stdout.close()


def _collect(lines: Iterable[str], told: list[dict[str, Any]]) -> None:
    for line in lines:
        told.append(json.loads(line))  # noqa: PERF401 - one by one: another thread looks on


def _levels(book: dict[str, Any]) -> dict[str, list[Any]]:
    return {side: sorted([px, [size, count]] for px, size, count in book[side]) for side in ("bids", "asks")}


def _sorted(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {side: sorted(row[side]) for side in ("bids", "asks")}


def test_the_python_snippet_runs(gateway: Gateway, feed: Feed) -> None:
    code = f"URL = {gateway.url!r}\n" + snippet("python").replace(
        "for event in", "print('began', flush=True)\nfor event in"
    )
    process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    assert "99.5" in process.stdout.readline()
    trade(feed, 1)
    assert process.wait(30) == 0
    process.stdout.close()


def mbo(*args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", *args], capture_output=True, text=True, timeout=timeout
    )


def test_watch_prints_lines_into_a_pipe_and_says_what_is_wrong(gateway: Gateway, feed: Feed) -> None:
    wrong = mbo("watch", "NOPE", "--url", gateway.url)
    assert wrong.returncode in (1, 2)
    assert len(wrong.stderr.strip().splitlines()) == 1
    process = subprocess.Popen(
        [sys.executable, "-m", "services", "watch", "ONE", "--url", gateway.url],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ONE bid 99.5 x 3 (1) ask 100.5 x 2 (1)\n"
    trade(feed, 5)
    assert process.stdout.readline() == "ONE trade B 95 x 5\n"
    feed.end()
    gateway.service.drained()
    assert process.wait(30) == 0
    process.stdout.close()


def test_the_ladder_shows_both_sides() -> None:
    from rich.console import Console

    from services.watch import ladder
    from shared.client import Book

    state = {
        "symbol": "ONE",
        "bids": [["99.5", 3, 1]],
        "asks": [["100.5", 2, 1]],
        "stale": True,
        "crossed": False,
        "auction": {"price": "100", "size": 7},
    }
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(
        ladder(Book.of(state), [{"side": "B", "price": "100", "size": 1}], {"status": "open", "bye": ""}, 2)
    )
    text = console.export_text()
    for part in ("99.5", "100.5", "STALE", "auction 100 x 7", "reconnected 1 times"):
        assert part in text
    console.file.close()


def test_keys_are_made_listed_and_revoked(broker_url: str, prefix: str, broker: Broker, feed: Feed) -> None:
    where = ("--broker", broker_url, "--prefix", prefix)
    made = mbo(
        "keys", *where, "add", "desk", "--symbols", "ONE", "--channels", "book,bbo", "--expires", "90d"
    )
    key = made.stdout.strip()
    assert key.startswith("mbo_")
    assert key not in str(broker.hash(broker.keys.api_keys))
    assert "desk" in mbo("keys", *where, "list").stdout
    assert mbo("keys", *where, "add", "desk").returncode == 2
    with Gateway(broker_url, prefix, auth="required") as gateway:
        gateway.caught_up(feed)
        assert gateway.get("/v1/book/ONE", authorization=f"Bearer {key}").status_code == 200
        assert gateway.get("/v1/book/ONE?level=3", authorization=f"Bearer {key}").status_code == 403
        assert mbo("keys", *where, "revoke", "desk").returncode == 0
        eventually(lambda: gateway.get("/v1/book/ONE", authorization=f"Bearer {key}").status_code == 401)


def test_every_setting_has_a_line_of_help() -> None:
    answer = mbo("gateway", "--help")
    assert answer.returncode == 0
    for name in GatewaySettings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in answer.stdout
