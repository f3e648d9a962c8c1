"""An engine by its kind: the numba kernel or the plain reference; each is imported when it is asked for."""

from __future__ import annotations

from typing import Any

from shared.orderbook.engine import POLICIES, Engine, Outputs, Policy


def make_engine(policy: Policy = "uncross", kind: str = "numba", *, outputs: Outputs = "all") -> Engine:
    """An empty engine. ValueError for an unknown policy or kind."""
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
    engine: Engine = _engine(kind)(policy, outputs=outputs)
    return engine


def restore_engine(body: bytes, kind: str = "numba", *, outputs: Outputs = "all") -> Engine:
    """The engine of an image; ImageError if it is damaged, too large or newer than this program."""
    engine: Engine = _engine(kind).restore(body, outputs=outputs)
    return engine


def _engine(kind: str) -> Any:
    if kind == "numba":
        from shared.orderbook.books import Books

        return Books
    if kind == "reference":
        from shared.orderbook.reference import ReferenceBooks

        return ReferenceBooks
    raise ValueError(f"engine {kind!r} is none of numba, reference")
