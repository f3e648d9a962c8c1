"""The contract of a source: one ordered sequence of items, each a record or a control entry, counted from 0.

The same source gives the same items in the same order every time it is opened, so that ingest can resume at
any position and send again what the broker lost. A live source journals what it took before it gives it out,
and gives it out again from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from shared.records import Rows


class EndOfSource(Exception):
    """The source has ended: no item will ever follow."""


class Chunk(NamedTuple):
    """Some items in order: either contiguous MBO records or one control entry."""

    position: int  # items given out up to and including this chunk: where to resume after it
    records: Rows | None  # layout MBO, at least one
    control: Mapping[str, Any] | None  # payload of a control entry, see shared/wire/README.md


class Source(Protocol):
    dataset: str  # DBN dataset code; the default name of the feed
    identity: str  # hex: dataset + metadata + hash of the first 1,000 records, not path or size
    spec: Mapping[
        str, Any
    ]  # JSON-able: what the session's `begin` says of its source (kind, names, seed, start …)
    total: int | None  # items in all, where known (progress bar)
    is_live: bool  # True: it cannot be held back, reading it late loses records at the source

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        """Start at `position` (0 or where a previous run stopped); `spec` is what the session began with.

        Raises SourceError if the input cannot be read or this position cannot be had again.
        """

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        """The next items, at most `limit` records; None if none came within `timeout_s`.

        Raises EndOfSource at the end, SourceError with a byte offset or record index where input is damaged.
        """

    def close(self) -> None:
        """Release files, connections and threads; safe to call twice."""


class Reread(Protocol):
    """Items that were given out before, once more."""

    @property
    def position(self) -> int: ...

    def read(self, limit: int) -> Chunk | None:
        """The next items, at most `limit` records; raises EndOfSource where what was kept ended when it was opened."""


@runtime_checkable
class Journaled(Protocol):
    """A live source: it keeps what it gave out, to a size, and another thread may read that while it goes on."""

    def reread(self, position: int, spec: Mapping[str, Any]) -> Reread | None:
        """From `position` on, the very same items; None if they are no longer kept. Raises SourceError."""

    def claim(self, token: str, writers: set[str]) -> None:
        """Before it is opened under `token`: `writers` are the tokens under which the feed was last written.

        Positions mean this journal's items only if all of those were its own; else it is given up, and `open` says gap.
        """

    def journal_size(self) -> int:
        """Bytes kept now; from any thread."""
