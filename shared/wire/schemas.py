"""The JSON Schemas (draft 2020-12) of SSE events and REST answers: `schemas/*.json`, one a name."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Any

SSE_EVENTS = ("hello", "snapshot", "delta", "bbo", "trade", "mbo", "bar", "status", "heartbeat", "bye")
REST_ANSWERS = (
    "instruments", "book", "order", "history-trades", "history-bbo", "history-bars", "history-mbo",
    "activity", "days", "pipeline", "problem", "health", "login",
)  # fmt: skip
URN = "urn:mbostream:"


@functools.cache
def load(name: str) -> dict[str, Any]:
    """The schema `name` ("delta", "common" …) as it lies in its file; KeyError if there is none."""
    if name not in (*SSE_EVENTS, *REST_ANSWERS, "common"):
        raise KeyError(f"no schema {name!r}")
    schema: dict[str, Any] = json.loads(
        (files("shared.wire") / "schemas" / f"{name}.json").read_text("utf-8")
    )
    return schema


@functools.cache
def validator(name: str) -> Any:
    """A jsonschema validator of `name` that knows the shared parts (jsonschema is a test dependency)."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    registry: Any = Registry().with_resource(f"{URN}common", Resource.from_contents(load("common")))
    return Draft202012Validator(load(name), registry=registry)
