"""Merging files: one total order, whatever the sizes of files and chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.merge import merge
from shared.dbn import Message, Part
from shared.records import Rows
from tests.support.mbo import random_rows


@dataclass
class Made:
    rows: Rows
    chunk: int
    opened: list[int]
    messages: tuple[Message, ...] = ()

    @property
    def first_ts(self) -> int:
        return int(self.rows["ts_recv"][0]) if len(self.rows) else 0

    def parts(self) -> Iterator[Part]:
        self.opened.append(id(self))
        yield from (Part(None, message) for message in self.messages)
        for at in range(0, len(self.rows), self.chunk):
            yield Part(self.rows[at : at + self.chunk], None)


def made(stamps: list[int], chunk: int, index: int, opened: list[int]) -> Made:
    rows = random_rows(len(stamps))
    rows["ts_recv"], rows["order_id"], rows["size"] = stamps, index, np.arange(len(stamps))
    return Made(rows, chunk, opened)


def expected(files: list[Made]) -> list[tuple[int, int]]:
    keyed = []
    for index, one in enumerate(files):
        keys: list[int] = np.maximum.accumulate(one.rows["ts_recv"]).tolist()
        keyed += [(key, index, place) for place, key in enumerate(keys)]
    return [(index, place) for _, index, place in sorted(keyed)]


stamps = st.lists(st.integers(1, 12), max_size=12)


@given(st.lists(st.tuples(stamps, st.integers(1, 5)), min_size=1, max_size=5))
def test_the_order_is_that_of_time_then_file_then_place(specs: list[tuple[list[int], int]]) -> None:
    files = [made(times, chunk, index, []) for index, (times, chunk) in enumerate(specs)]
    batches = [item for item in merge(list(files)) if not isinstance(item, Message)]
    got = [(int(row["order_id"]), int(row["size"])) for batch in batches for row in batch]
    assert got == expected(files)


def test_files_that_follow_each_other_are_passed_on_uncopied_and_opened_in_turn() -> None:
    opened: list[int] = []
    files = [made([1, 2, 3], 2, 0, opened), made([3, 4], 2, 1, opened), made([9], 2, 2, opened)]
    seen = []
    for batch in merge(list(files)):
        assert not isinstance(batch, Message)
        seen.append((any(np.shares_memory(batch, one.rows) for one in files), len(opened)))
    assert all(shared for shared, _ in seen)
    assert seen[0][1] == 1, "the first file alone is open at first"


def test_messages_come_before_the_records_that_follow_them() -> None:
    message = Message("status", 1, 5, {})
    late = made([5, 6], 5, 1, [])
    late.messages = (message,)
    items = list(merge([made([1, 2, 7], 5, 0, []), late]))
    flat = [each if isinstance(each, Message) else [int(ts) for ts in each["ts_recv"]] for each in items]
    assert flat.index(message) < next(
        index for index, each in enumerate(flat) if each != message and 5 in each
    )
