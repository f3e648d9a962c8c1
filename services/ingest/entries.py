"""The entries a shard's items become: runs of records joined, cut at the entry limit; controls alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.records import Rows, joined

Item = Rows | Mapping[str, Any]  # records or one control
Part = tuple[int, Item]  # (ts_due, item)


def pieces(parts: Sequence[Part], limit: int) -> list[Part]:
    """Of each run the first ts_due: latency counts from its oldest record."""
    found: list[Part] = []
    index = 0
    while index < len(parts):
        ts_due, item = parts[index]
        index += 1
        if isinstance(item, Mapping):
            found.append((ts_due, item))
            continue
        run = [item]
        while index < len(parts) and not isinstance(following := parts[index][1], Mapping):
            run.append(following)
            index += 1
        records = run[0] if len(run) == 1 else joined(run)
        found += [(ts_due, records[begin : begin + limit]) for begin in range(0, len(records), limit)]
    return found
