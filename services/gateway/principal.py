"""A caller: what its credential allows and until when; and the API keys as the broker has them."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from services.gateway.problems import unauthorized

COOKIE_SECRET_FIELD = "cookie-secret"  # noqa: S105 - the name of a field of `{mbo}:keys`, not a secret
ANY = ("*",)


def key_hash(key: str) -> str:
    """How a key lies in the broker: keys are 256 random bits, so one SHA-256 is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


@lru_cache(maxsize=65_536)
def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: what its credential allows, and until when."""

    name: str = "anonymous"
    auth: str = "none"  # none, key, jwt, cookie
    key_id: str = ""  # hash of its API key, "" for others
    symbols: tuple[str, ...] = ANY
    channels: tuple[str, ...] = ANY
    streams: int | None = None
    expires_s: float | None = None  # unix time

    @property
    def scope_key(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.symbols, self.channels

    @property
    def account(self) -> str:
        """What its limits are counted by."""
        return self.key_id or (
            f"sub:{self.name}" if self.auth != "none" else ""
        )  # a token and its cookie are one

    def allows(self, symbol: str, channel: str) -> bool:
        """Patterns of symbols (`CL*`) and of channels; `history`, `export` and `pipeline` are channels here."""
        return _matches(self.symbols, symbol) and _matches(self.channels, channel)

    def expired(self) -> bool:
        return self.expires_s is not None and time.time() >= self.expires_s

    def expires_monotonic(self) -> float:
        return math.inf if self.expires_s is None else time.monotonic() + self.expires_s - time.time()


def from_claims(claims: Mapping[str, Any], auth: str) -> Principal:
    def texts(name: str) -> tuple[str, ...]:
        value = claims.get(name, ANY)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise unauthorized(f"the token's {name} is not a list of text")
        return tuple(value)

    streams = claims.get("streams")
    return Principal(
        str(claims.get("sub", "")), auth, "", texts("symbols"), texts("channels"),
        streams if isinstance(streams, int) else None, float(claims["exp"]),
    )  # fmt: skip


class KeyTable:
    """The keys of the broker as last read."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.cookie_secret = b""

    def load(self, table: Mapping[str, str]) -> set[str]:
        """Take `{mbo}:keys`; the hashes of keys that are gone since the last time."""
        rows = {name: json.loads(blob) for name, blob in table.items() if name != COOKIE_SECRET_FIELD}
        gone = self.rows.keys() - rows.keys()
        self.rows = rows
        self.cookie_secret = table.get(COOKIE_SECRET_FIELD, "").encode()
        return set(gone)

    def find(self, hashed: str, auth: str = "key") -> Principal | None:
        """The principal of a hash; None if unknown or expired."""
        for known, row in self.rows.items():
            if hmac.compare_digest(known, hashed):
                scopes, expires = row.get("scopes") or {}, row.get("expires")
                found = Principal(
                    str(row.get("name", "")),
                    auth,
                    known,
                    tuple(scopes.get("symbols") or ANY),
                    tuple(scopes.get("channels") or ANY),
                    (row.get("limits") or {}).get("streams"),
                    float(expires) if expires else None,
                )
                return None if found.expired() else found
        return None
