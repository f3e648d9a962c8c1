"""Merge the records of several files of one dataset by ts_recv.

Total order: (running maximum of ts_recv within the file, file, place in the file), so the order inside a file
is always kept. A batch is every record up to the smallest last key among the chunks at hand: where files do
not overlap that is one whole chunk, passed on as it is; where they do, one stable sort. Files are opened when
their time comes, so the number of files costs no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.dbn import Message, Part
from shared.records import Rows, joined, recv_times


class Opener(Protocol):
    """A file that is not open yet."""

    @property
    def first_ts(self) -> int:
        """ts_recv of its first record, ns."""

    def parts(self) -> Iterator[Part]: ...


@dataclass(slots=True)
class _Open:
    index: int
    parts: Iterator[Part]
    records: Rows
    keys: NDArray[np.uint64]
    reached: int = 0  # running maximum of ts_recv

    def load(self) -> Iterator[Message]:
        """The next records into `records` (empty at the end); yields the messages before them."""
        self.records = self.records[:0]
        for part in self.parts:
            if part.message is not None:
                yield part.message
            elif part.records is not None:
                self.records = part.records
                stamps = recv_times(part.records)
                if self.reached < int(stamps[0]) and bool((stamps[1:] >= stamps[:-1]).all()):
                    self.keys = stamps
                else:
                    self.keys = np.maximum.accumulate(np.maximum(stamps, np.uint64(self.reached)))
                self.reached = int(self.keys[-1])
                return


def merge(files: list[Opener]) -> Iterator[Rows | Message]:
    """Records and messages of all files in the order above.

    Ties go to the file that comes first in the list.
    """
    waiting = sorted(range(len(files)), key=lambda index: (files[index].first_ts, index), reverse=True)
    active: list[_Open] = []
    while active or waiting:
        least = min(((one.reached, one.index) for one in active), default=None)
        while waiting and (least is None or (files[waiting[-1]].first_ts, waiting[-1]) <= least):
            index = waiting.pop()
            one = _Open(index, files[index].parts(), np.empty(0, np.void), np.empty(0, np.uint64))
            yield from one.load()
            if len(one.records):
                active.append(one)
                active.sort(key=lambda each: each.index)
                least = min((each.reached, each.index) for each in active)
        if not active:
            continue
        last = min(active, key=lambda one: (one.reached, one.index))
        batch: list[tuple[Rows, NDArray[np.uint64]]] = []
        for one in active:
            if one is last:
                n = len(one.records)
            else:
                n = int(
                    np.searchsorted(one.keys, last.reached, "right" if one.index < last.index else "left")
                )
            if n:
                batch.append((one.records[:n], one.keys[:n]))
                one.records, one.keys = one.records[n:], one.keys[n:]
        if len(batch) == 1:
            yield batch[0][0]
        else:
            order = np.argsort(np.concatenate([keys for _, keys in batch]), kind="stable")
            yield joined([records for records, _ in batch])[order]
        yield from last.load()
        if not len(last.records):
            active.remove(last)
