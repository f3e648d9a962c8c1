"""REST answers match their schemas and the OpenAPI document; errors say what to do."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.gateway import openapi
from services.gateway.app import REST
from shared.broker import Broker
from shared.wire import schemas
from tests.support import eventually
from tests.support.feed import Feed
from tests.support.gateway import Gateway
from tests.support.mbo import record, rows


@pytest.fixture(scope="module")
def gateway(broker_url: str) -> Iterator[Gateway]:
    broker = Broker(broker_url, "rest.", name="test")
    feed = Feed(broker, symbols={1: "ONE", 2: "TWO", 3: "BTC/USD €: A"})
    feed.records(rows(record("A", "B", 99, 3, 1), record("A", "B", 99, 4, 2), record("A", "A", 101, 1, 3)))
    with Gateway(broker_url, "rest.") as running:
        running.caught_up(feed)
        yield running
    broker.close()


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/instruments", "instruments"),
        ("/v1/instruments?search=on&limit=1", "instruments"),
        ("/v1/book/ONE", "book"),
        ("/v1/book/ONE?level=3", "book"),
        ("/v1/book/TEST.FEED:ONE?depth=all", "book"),
        ("/v1/book/1?publisher=1", "book"),
        ("/v1/orders/ONE/2", "order"),
        ("/v1/pipeline", "pipeline"),
        ("/v1/session", "login"),
    ],
)
def test_an_answer_is_valid_under_its_schema(gateway: Gateway, path: str, schema: str) -> None:
    schemas.validator(schema).validate(gateway.json(path))


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/book/NOPE", 404, "/v1/instruments"),
        ("/v1/book/ONE?depth=0", 400, "depth"),
        ("/v1/book/ONE?depth=1e3", 400, "depth"),
        ("/v1/book/ONE?deep=1", 400, "known are"),
        ("/v1/book/ONE?depth=1&depth=2", 400, "twice"),
        ("/v1/book/ONE?session=1", 400, "at="),
        ("/v1/book/ONE?at=yesterday", 400, "RFC 3339"),
        ("/v1/orders/ONE/77", 404, "order"),
        ("/v1/orders/ONE/x", 400, "order id"),
        ("/v1/orders/ONE/99999999999999999999", 400, "2^64"),
        ("/v1/history/ONE/trades", 503, "persist"),
        ("/v1/history/ONE/trades?start=5&end=5", 400, "after start"),
        ("/v1/history/ONE/bars?period=2h", 400, "1s or 1m"),
        ("/v1/export/ONE?format=xml", 400, "format"),
        ("/v1/replay?symbols=ONE&speed=0", 400, "speed"),
        ("/v1/replay?symbols=ALL_SYMBOLS", 400, "names its symbols"),
        ("/v1/stream", 400, "symbols="),
        ("/v1/stream?symbols=NOPE", 404, "/v1/instruments"),
        ("/v1/stream?symbols=ONE&channels=all", 400, "channels are"),
        ("/v1/stream?symbols=ONE&interval=-1", 400, "interval"),
        ("/v1/nothing", 404, "/docs"),
        ("/static/nothing.js", 404, ""),
    ],
)
def test_a_wrong_request_is_a_problem_that_says_what_to_do(
    gateway: Gateway, path: str, status: int, says: str
) -> None:
    answer = gateway.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    schemas.validator("problem").validate(answer.json())
    assert says in answer.json()["detail"]


def test_a_wrong_method_says_which_are_allowed(gateway: Gateway) -> None:
    for path in ("/v1/book/ONE", "/v1/stream?symbols=ONE", "/v1/replay?symbols=ONE"):
        answer = httpx.post(gateway.url + path)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]


def test_an_unchanged_answer_is_304_and_head_has_no_body(gateway: Gateway) -> None:
    first = gateway.get("/v1/book/ONE")
    again = gateway.get("/v1/book/ONE", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    head = httpx.head(gateway.url + "/v1/book/ONE")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])
    stream = httpx.head(gateway.url + "/v1/stream?symbols=ONE")
    assert stream.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("symbol", ["BTC%2FUSD%20%E2%82%AC%3A%20A", "TEST.FEED:BTC/USD%20%E2%82%AC:%20A"])
def test_a_symbol_may_hold_any_character(gateway: Gateway, symbol: str) -> None:
    assert gateway.json(f"/v1/book/{symbol}")["symbol"] == "BTC/USD €: A"
    assert gateway.get(f"/v1/orders/{symbol}/7").json()["detail"].startswith("no such order")
    assert gateway.get(f"/v1/history/{symbol}/trades").status_code != 400
    assert gateway.get(f"/v1/stream?symbols={symbol},NOPE").json()["detail"].startswith("no feed has 'NOPE'")


def test_modules_of_the_page_are_asked_for_again_after_an_upgrade(gateway: Gateway) -> None:
    """Without Cache-Control a browser takes a tenth of a file's age as its freshness."""
    answer = gateway.get("/static/js/main.js")
    assert answer.headers["cache-control"] == "no-cache"
    again = gateway.get("/static/js/main.js", if_none_match=answer.headers["etag"])
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


def test_the_loop_of_live_streams_compresses_no_long_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    long: list[tuple[int, str]] = []

    class Spy:
        def __init__(self, *args: Any, **more: Any) -> None:
            self._packer = compressobj(*args, **more)

        def compress(self, part: bytes) -> bytes:
            if len(part) > 16_384:
                long.append((len(part), threading.current_thread().name))
            return self._packer.compress(part)

        def flush(self, *args: int) -> bytes:
            return self._packer.flush(*args)

    compressobj = zlib.compressobj
    monkeypatch.setattr(zlib, "compressobj", Spy)
    assert gateway.get("/openapi.json", accept_encoding="gzip").headers["content-encoding"] == "gzip"
    assert long
    assert all(thread != "http" for _, thread in long)


def test_large_answers_are_gzipped(gateway: Gateway) -> None:
    answer = gateway.get("/openapi.json", accept_encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["openapi"] == "3.1.0"


def test_the_openapi_document_names_exactly_the_routes(gateway: Gateway) -> None:
    document = gateway.json("/openapi.json")
    named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    served = {(rest.method, rest.path) for rest in REST} | {("GET", "/v1/stream"), ("GET", "/v1/replay")}
    assert named == served
    assert document == json.loads(json.dumps(openapi.document(REST)))
    references = {part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]}
    for reference in references:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_docs_need_no_other_host(gateway: Gateway) -> None:
    page = gateway.get("/docs")
    assert page.status_code == 200
    for part in ("/docs/docs.js", "/docs/docs.css"):
        assert part.rsplit("/", 1)[1] in page.text
        assert gateway.get(part).status_code == 200
    text = page.text + gateway.get("/docs/docs.js").text + gateway.get("/docs/docs.css").text
    assert "https://" not in text.replace("https://www.w3.org", "")
    assert "<script>" not in page.text
    assert " style=" not in page.text


def test_the_page_has_a_strict_policy(gateway: Gateway) -> None:
    answer = gateway.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["script-src"] == "'self'"
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_path_never_leaves_the_static_folder(gateway: Gateway) -> None:
    for path in (
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2fsettings.py",
        "/static//etc/passwd",
    ):
        assert gateway.get(path).status_code == 404


def test_the_pipeline_is_looked_at_again_after_the_clock_was_set_back(gateway: Gateway) -> None:
    gateway.json("/v1/pipeline")
    newest = gateway.service.context.pipeline._newest
    assert newest is not None
    newest["at"] += 3600.0  # when it was taken the clock stood an hour later
    later = round(newest["at"] * 1e9)
    again = eventually(
        lambda: (body := gateway.json("/v1/pipeline")) and int(body["ts_gateway"]) < later and body
    )
    assert all(shard["rate"] is None for feed in again["feeds"] for shard in feed["shards"])
