"""What the history API answers, as values; and how blocks and controls become a shard's entries again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import numpy as np

from shared.blocks import Block
from shared.errors import MboError
from shared.orderbook.shard import ShardState
from shared.records import Rows
from shared.wire.codec import InEntry

OPEN_END = 2**63 - 1  # `last` of an interval that has not ended; an undefined time


class HistoryError(MboError):
    """The history API refused: an unknown name, a wrong parameter, or what was asked for is no longer kept."""


class HistoryDown(HistoryError):
    """No reader answers: not advertised, connection lost, or its disk failed."""

    recoverable = True


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One recorded run of a feed. Times in ns of ts_recv, OPEN_END / 0 where no record had one."""

    feed: str
    run: int
    session: int
    dataset: str
    policy: str
    shards: int
    state: str  # open or ended
    identity: str
    spec: Mapping[str, Any]
    began: int
    first_ts: int
    last_ts: int
    records: int
    offsets: tuple[int, ...]  # last stored ordinal of each shard
    floors: tuple[int, ...]  # ordinals up to there were removed by retention


@dataclass(frozen=True, slots=True)
class InstrumentInfo:
    """What a run knows of an instrument."""

    instrument_id: int
    symbol: str | None
    shard: int
    publishers: tuple[int, ...]
    tick_px: int | None
    multiplier: str | None
    currency: str | None
    expiration: int | None
    display_factor: str | None
    first_ts: int
    last_ts: int
    records: int
    trades: int


@dataclass(frozen=True, slots=True)
class Span:
    """An instrument of a run over the ordinals in which its id had the symbol."""

    feed: str
    run: int
    session: int
    shard: int
    instrument_id: int
    symbol: str | None
    first: int
    last: int  # OPEN_END: still so


@dataclass(frozen=True, slots=True)
class Day:
    """Counts of one UTC day of a run."""

    run: int
    session: int
    date: str
    records: int
    trades: int
    first_ts: int  # to the minute
    last_ts: int


@dataclass(frozen=True, slots=True)
class Activity:
    """A histogram over time: counts in steps of `step` ns from `start`."""

    start: int
    step: int
    records: tuple[int, ...]  # of the feed, by second at best
    trades: tuple[int, ...]  # of the instrument if one was named, else of the feed


class StoredImage(NamedTuple):
    """A book image as `ShardState.restore` takes it."""

    ordinal: int
    recv_run: int
    blob: bytes


class BookAt(NamedTuple):
    """A book at an instant: its shard's state with that instrument applied up to `ordinal`."""

    span: Span
    state: ShardState
    ordinal: int


T = TypeVar("T")


def readings(text: str) -> list[tuple[str, str]]:
    """What a symbol as people write it can mean, as (dataset or feed, symbol), in the order to try.

    The whole text first: symbols hold colons too (CME's user-defined spreads: "UD:1V: GN 2533155"); then
    DATASET:SYMBOL.
    """
    dataset, colon, symbol = text.partition(":")
    return [("", text), *([(dataset.lower(), symbol)] if colon else [])]


def from_json(cls: type[T], row: Mapping[str, Any]) -> T:
    """A value of one of the classes above from its JSON object; unknown fields are left out."""
    return cls(
        **{
            field.name: tuple(row[field.name]) if isinstance(row[field.name], list) else row[field.name]
            for field in fields(cls)  # type: ignore[arg-type]
        }
    )


Control = tuple[int, int, Mapping[str, Any]]  # its last ordinal, how many it covers, the control map


def stored_entry(n: int, first: int, records: Rows | None, control: Mapping[str, Any] | None) -> InEntry:
    """An entry as it comes out of a store: without the stamps and positions of its way through the broker."""
    return InEntry(n, first, ts_due=0, ts_ingest=0, position=0, beyond=0, records=records, control=control)


def control_entry(control: Control) -> InEntry:
    ordinal, n, body = control
    return stored_entry(n, ordinal - n + 1, None, body)


def merge_entries(
    blobs: Iterable[bytes], controls: Callable[[int, int], Iterable[Control]], first: int, last: int
) -> Iterator[InEntry]:
    """Entries of one shard with ordinals first … last from its blocks and controls, contiguous, as they were stored.

    Ends at the last stored ordinal. Raises HistoryError if something is missing in between.
    """
    cursor = first

    def until(end: int) -> Iterator[InEntry]:
        nonlocal cursor
        for control in controls(cursor, end):
            entry = control_entry(control)
            if entry.last < cursor or entry.last > end:
                continue
            if entry.first > cursor:
                return
            cursor = entry.last + 1
            yield entry

    for blob in blobs:
        ordinals, rows = Block(blob).mbo()
        low, high = np.searchsorted(ordinals, np.array([cursor, last + 1], np.uint64))
        if low >= high:
            continue
        ordinals, rows = ordinals[low:high], rows[low:high]
        for a, b in segments(ordinals):
            if int(ordinals[a]) > cursor:
                yield from until(int(ordinals[a]) - 1)
                if int(ordinals[a]) != cursor:
                    raise HistoryError(f"ordinals {cursor} to {int(ordinals[a]) - 1} are not in the store")
            cursor = int(ordinals[b - 1]) + 1
            yield stored_entry(b - a, int(ordinals[a]), rows[a:b], None)
    yield from until(last)


def segments(ordinals: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """(start, stop) of the contiguous stretches of ascending ordinals."""
    cuts = [0, *(np.flatnonzero(np.diff(ordinals) != 1) + 1).tolist(), len(ordinals)]
    yield from itertools.pairwise(cuts)


def cut_by_time(rows: Rows, start: int | None, end: int | None) -> Any:
    """Mask of rows with start ≤ ts_recv < end, or a full slice."""
    if start is None and end is None:
        return slice(None)
    recv = rows["ts_recv"]
    keep = np.ones(len(rows), bool)
    if start is not None:
        keep &= recv >= np.uint64(max(0, start))
    if end is not None:
        keep &= recv < np.uint64(max(0, end))
    return slice(None) if keep.all() else keep  # a mask copies, row by row
