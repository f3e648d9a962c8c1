"""What the running pipeline says over HTTP, through the proxy."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.deploy.containers.engine import PORT


def get(path: str, port: int = PORT) -> Any:
    """JSON of an answer, or None while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def instruments() -> list[dict[str, Any]]:
    return (get("/v1/instruments") or {}).get("instruments") or []


def feeds() -> list[dict[str, Any]]:
    """None while the gateway does not answer."""
    return (get("/v1/pipeline") or {}).get("feeds") or []


def shards() -> list[dict[str, Any]]:
    """Rows of all shards of all feeds."""
    return [row for feed in feeds() for row in feed["shards"]]


def committed() -> int:
    """Records committed by the workers: the sum of the offsets."""
    return sum(row["readers"]["book"]["at"] or 0 for row in shards() if row["readers"].get("book"))


def stored() -> int:
    """Records that persist has committed."""
    return sum(row["readers"]["persist"]["at"] or 0 for row in shards() if row["readers"].get("persist"))


def owners() -> set[str]:
    return {row["owner"] for row in shards() if row["owner"]}


def all_owned_without(gone: set[str]) -> bool:
    rows = shards()
    return bool(rows) and all(row["owner"] and row["owner"] not in gone for row in rows)


def grows(by: int = 2000) -> Callable[[], bool]:
    """A probe: that so many more records have been committed than when it was made."""
    start = committed()
    return lambda: committed() >= start + by
