"""The client: what it tries again it says, it ends when reconnecting has no sense, and takes what it does not have."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from shared import client as module
from shared.client import Client, rows_after

BYE = {"reason": "ended", "detail": "", "retry_ms": None}


def test_a_gateway_that_is_not_there_is_tried_again_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries = iter([httpx.ConnectError("Connection refused"), httpx.Response(503), None])

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(tries)
        if isinstance(found, Exception):
            raise found
        if found is not None:
            return found
        return httpx.Response(
            200,
            headers={"content-type": "text/event-stream"},
            text=f"event: bye\ndata: {json.dumps(BYE)}\n\n",
        )

    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(module, "WARN_EVERY_S", 0.0)
    http = httpx.Client(transport=httpx.MockTransport(answer))
    events = [event.name for event in Client("http://127.0.0.1:1", symbols="ES", http=http)]
    assert events == ["bye"]
    assert len(slept) == 2
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["event"], line["why"]) for line in said] == [
        ("warning", "no stream", "Connection refused"),
        ("warning", "no stream", "the gateway answers 503"),
    ]
    assert {line["url"] for line in said} == {"http://127.0.0.1:1/v1/stream"}


def test_a_batch_that_overlaps_is_taken_from_the_first_row_one_does_not_have() -> None:
    def row(ordinal: int, flags: int) -> list[Any]:
        return [ordinal, "A", "B", "1", 1, "1", flags]

    batch = [row(5, 0), row(6, 128), row(3, 0), row(9, 128), row(10, 128)]  # row 3 was held back until 9
    assert rows_after(batch, 4) == batch
    assert rows_after(batch, 6) == batch[2:]
    assert rows_after(batch, 8) == batch[2:]
    assert rows_after(batch, 9) == batch[4:]
