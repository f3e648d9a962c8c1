"""Why a stream ends: the `reason` of `bye`, what the client is told to do, and when to come back."""

from __future__ import annotations

import random
from typing import NamedTuple


class Bye(NamedTuple):
    reason: str
    detail: str
    retry_ms: int | None  # middle of the jittered range; None: do not reconnect


ENDED = Bye("ended", "the session has ended and everything was sent", None)
DRAIN = Bye("drain", "this gateway is stopping: reconnect, another one or the next resumes by id", 1000)
SLOW = Bye("slow", "unread for too long: read faster, subscribe to less, or ask for interval=", 2000)
MAX_AGE = Bye("max_age", "streams have a maximum age: reconnect, it resumes by id", 500)
EXPIRED = Bye("expired", "the credential has expired: sign in again", None)
REVOKED = Bye("revoked", "the credential was revoked: ask the operator for a new key", None)
OVERLOAD = Bye("overload", "this gateway is full: it may have room later", 10_000)
LIMIT = Bye(
    "limit",
    "too many streams or connects for this key or address: close some, or ask for a higher limit",
    15_000,
)
STARTING = Bye("starting", "the gateway is still loading the books", 1000)
REMAPPED = Bye("remapped", "a symbol now has another instrument: reconnect to follow it", 200)
REPLAYED = Bye("replayed", "the end of the replay", None)
FAILED = Bye("failed", "an internal error; it was logged", 5000)


def retry_ms(bye: Bye) -> int | None:
    """The retry time with ±50 % jitter, so that a crowd does not come back at once."""
    return None if bye.retry_ms is None else round(bye.retry_ms * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
