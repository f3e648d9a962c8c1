"""Shared helpers of the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T | Literal[False] | None], *, timeout_s: float = 20.0, every_s: float | None = None
) -> T:
    """The first truthy value of `probe`; AssertionError with its last value or error after `timeout_s`.

    Without `every_s` it is asked often at first, then ten times a second: whoever is asked has other work too.
    """
    deadline = time.monotonic() + timeout_s
    pause = 0.02 if every_s is None else every_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            value = probe()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        time.sleep(pause)
        if every_s is None:
            pause = min(pause * 1.3, 0.1)
    raise AssertionError(f"not within {timeout_s} s; last: {last!r}")
