"""schemathesis on the OpenAPI document: no undocumented answer, no 5xx but 503; and a fuzz of the streams."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from services.gateway import openapi
from services.gateway.app import REST
from shared.broker import Broker
from tests.support.feed import Feed
from tests.support.gateway import Gateway
from tests.support.mbo import record, rows

EXAMPLES = int(os.environ.get("MBO_TEST_SCHEMATHESIS_EXAMPLES", "8"))
FUZZ = int(os.environ.get("MBO_TEST_FUZZ_EXAMPLES", "150"))
SSE = ("/v1/stream", "/v1/replay")


@pytest.fixture(scope="module")
def gateway(broker_url: str) -> Iterator[Gateway]:
    broker = Broker(broker_url, "openapi.", name="test")
    feed = Feed(broker, symbols={1: "CLX5", 2: "TWO"})
    feed.records(rows(record("A", "B", 99, 3, 6871234599), record("A", "A", 101, 1, 3)))
    with Gateway(broker_url, "openapi.", recalls=100, recalls_per_client=100) as running:
        running.caught_up(feed)
        yield running
    broker.close()


def rest_only() -> dict[str, Any]:
    document: dict[str, Any] = dict(openapi.document(REST))
    document["paths"] = {path: item for path, item in document["paths"].items() if path not in SSE}
    return document


schema = schemathesis.openapi.from_dict(rest_only())
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_documented(gateway: Gateway, case: schemathesis.Case[Any]) -> None:
    answer = case.call(base_url=gateway.url, timeout=60)  # the recall process may have to start
    assert answer.status_code < 500 or answer.status_code == 503
    case.validate_response(answer, checks=CHECKS)


WORDS = st.sampled_from(
    [
        "CLX5",
        "TWO",
        "ALL_SYMBOLS",
        "TEST.FEED:CLX5",
        "1",
        "",
        "book",
        "mbo",
        "bbo,trades",
        "all",
        "0",
        "-1",
        "1e9",
        "max",
        "x" * 300,
        "%00",
        "\x00",
        "ü",
        "1.5",
        "columns",
    ]
)
NAMES = st.sampled_from(
    [
        "symbols",
        "channels",
        "depth",
        "interval",
        "publisher",
        "encoding",
        "compress",
        "last_event_id",
        "speed",
        "start",
        "end",
        "session",
        "odd",
    ]
)
VECTORS = st.one_of(
    st.text(max_size=40),
    st.from_regex(
        r"[a-z.]{1,9}:[0-9]{1,20}:[0-9]{1,4}\.[0-9]{1,20}(,[0-9]{1,3}\.[0-9]{1,3}){0,3}", fullmatch=True
    ),
    st.just("test.feed:1:0.3"),
    st.just("test.feed:9:0.99999"),
)


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(SSE),
    query=st.lists(st.tuples(NAMES, st.one_of(WORDS, st.text(max_size=20))), max_size=6),
    last_id=VECTORS,
    junk=st.lists(
        st.tuples(
            st.sampled_from(["accept", "accept-encoding", "cookie", "x-api-key", "if-none-match"]),
            st.text(max_size=30),
        ),
        max_size=3,
    ),
)
def test_a_fuzzed_stream_request_is_answered_with_events_or_a_problem(
    gateway: Gateway, path: str, query: list[tuple[str, str]], last_id: str, junk: list[tuple[str, str]]
) -> None:
    from urllib.parse import quote

    # a symbol that exists in half of the cases, so that streams do begin
    text = "&".join(f"{name}={quote(value)}" for name, value in query)
    head = [
        f"GET {path}?{text} HTTP/1.1",
        f"Host: 127.0.0.1:{gateway.port}",
        f"Last-Event-ID: {_header(last_id)}",
    ]
    head += [f"{name}: {_header(value)}" for name, value in junk]
    with socket.create_connection(("127.0.0.1", gateway.port)) as each:
        each.settimeout(20)
        each.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1", "replace"))
        found = b""
        while b"\r\n\r\n" not in found:
            part = each.recv(65_536)
            assert part, "closed without an answer"
            found += part
    status = int(found.split(b" ", 2)[1])
    assert status in (200, 400, 401, 403, 404, 414, 429, 503), found
    kind = b"text/event-stream" if status == 200 else b"application/problem+json"
    assert kind in found or b"Invalid HTTP request" in found
    assert gateway.service.http.failure is None


def _header(text: str) -> str:
    return "".join(c for c in text if c not in "\r\n\0")
