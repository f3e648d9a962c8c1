"""How readers follow a stream: entries where their IDs say, contiguous ordinals, overlaps sliced, gaps raised."""

from __future__ import annotations

from typing import TypeVar

from shared.errors import Gap, WireError
from shared.records import joined
from shared.wire.codec import InEntry, OutEntry
from shared.wire.keys import parse_id, stream_id

E = TypeVar("E", InEntry, OutEntry)


def placed(entry_id: bytes | str, entry: E) -> E:
    """`entry`, if it ends at the ordinal its ID says; WireError if not: it is damaged, or of another stream."""
    at = parse_id(entry_id)
    if at[1] != entry.last:
        raise WireError(f"entry {stream_id(*at)} says it holds the ordinals {entry.first} to {entry.last}")
    return entry


def follow(session: int, ordinal: int, entry_id: bytes | str, entry: InEntry) -> InEntry | None:
    """What of `entry` is new to a reader at (session, ordinal); None if nothing is.

    After a broker lost its last second, batches come back with other boundaries: what the reader has is sliced off.
    Raises Gap if ordinals between are missing, WireError as `placed`.
    """
    at_session, last = parse_id(entry_id)[0], placed(entry_id, entry).last
    if at_session < session or (at_session == session and last <= ordinal):
        return None
    have = ordinal if at_session == session else 0
    if entry.first > have + 1:
        raise Gap(
            f"ordinals {have + 1} to {entry.first - 1} of session {at_session} are missing", session=at_session,
            wanted=have + 1, got=entry.first,
        )  # fmt: skip
    skip = have + 1 - entry.first
    if skip == 0:
        return entry
    assert entry.records is not None  # a control covers one ordinal: it is new or not
    return entry._replace(n=entry.n - skip, first=entry.first + skip, records=entry.records[skip:])


def until(entry: InEntry, ordinal: int) -> InEntry:
    """The part of `entry` up to `ordinal` inclusive; the caller knows that it begins before."""
    cut = ordinal - entry.first + 1
    if cut >= entry.n:
        return entry
    assert entry.records is not None
    return entry._replace(n=cut, records=entry.records[:cut])


def join(run: list[InEntry]) -> InEntry:
    """Entries of records that follow each other, at least one, as one; its `ts_due` is the oldest."""
    if len(run) == 1:
        return run[0]
    records = joined([entry.records for entry in run if entry.records is not None])
    return run[0]._replace(n=len(records), records=records, ts_due=min(entry.ts_due for entry in run))
