"""Entries of a shard cut to what is new in them, and joined to chunks that the engine takes at once."""

from __future__ import annotations

from collections.abc import Iterable

from shared.records import joined
from shared.wire.codec import InEntry

CHUNK_RECORDS = 12_288  # a block's worth, still in the cache when it is sealed


def after(entry: InEntry, ordinal: int) -> InEntry:
    """What of an entry lies after `ordinal`: re-sent batches come with other boundaries than the first time."""
    if entry.first > ordinal or entry.records is None:
        return entry
    fresh = entry.records[ordinal + 1 - entry.first :]
    return entry._replace(n=len(fresh), first=ordinal + 1, records=fresh)


def coalesce(entries: list[InEntry]) -> Iterable[InEntry]:
    """The same entries with consecutive record entries joined up to CHUNK_RECORDS: fewer, longer engine calls."""
    run: list[InEntry] = []
    size = 0
    for entry in entries:
        if run and (entry.records is None or size + entry.n > CHUNK_RECORDS):
            yield _join(run, size)
            run, size = [], 0
        if entry.records is None:
            yield entry
        else:
            run.append(entry)
            size += entry.n
    if run:
        yield _join(run, size)


def _join(run: list[InEntry], size: int) -> InEntry:
    rows = joined(
        [entry.records for entry in run if entry.records is not None]
    )  # a copy: writable for the engine
    return run[0]._replace(n=size, records=rows)
