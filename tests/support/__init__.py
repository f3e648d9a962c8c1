"""Shared helpers of the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T | Literal[False] | None], *, timeout_s: float = 20.0, every_s: float = 0.02
) -> T:
    """The first truthy value of `probe`; AssertionError with its last value or error after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            value = probe()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        time.sleep(every_s)
    raise AssertionError(f"not within {timeout_s} s; last: {last!r}")
