"""Readers take what is new, slice overlaps and raise gaps."""

import numpy as np
import pytest

from shared.errors import Gap, WireError
from shared.records import MBO
from shared.wire.codec import InEntry
from shared.wire.reading import follow, until


def entry(first: int, n: int) -> InEntry:
    rows = np.zeros(n, MBO)
    rows["order_id"] = np.arange(first, first + n)
    return InEntry(n, first, 0, 0, 0, rows, None)


def ordinals(got: InEntry | None) -> list[int]:
    assert got is not None
    assert got.records is not None
    return [int(x) for x in got.records["order_id"]]


def test_the_next_entry_is_taken_whole() -> None:
    assert ordinals(follow(1, 4, b"1-7", entry(5, 3))) == [5, 6, 7]


def test_what_a_reader_has_is_skipped() -> None:
    assert follow(1, 7, b"1-7", entry(5, 3)) is None
    assert follow(2, 0, b"1-7", entry(5, 3)) is None


def test_an_overlap_is_sliced() -> None:
    assert ordinals(follow(1, 6, b"1-9", entry(5, 5))) == [7, 8, 9]


def test_a_gap_is_raised_with_its_place() -> None:
    with pytest.raises(Gap, match="ordinals 5 to 6") as caught:
        follow(1, 4, b"1-9", entry(7, 3))
    assert caught.value.facts == {"session": 1, "wanted": 5, "got": 7}


def test_a_new_session_begins_at_one() -> None:
    assert ordinals(follow(1, 90, b"2-2", entry(1, 2))) == [1, 2]
    with pytest.raises(Gap):
        follow(1, 90, b"2-9", entry(5, 5))


@pytest.mark.parametrize("entry_id", [b"1-8", b"1-6", "2-1"])
def test_an_entry_that_does_not_end_where_its_id_says_is_refused(entry_id: bytes | str) -> None:
    with pytest.raises(WireError, match=r"entry [12]-[168] says .* 5 to 7"):
        follow(1, 4, entry_id, entry(5, 3))


def test_until_cuts() -> None:
    assert ordinals(until(entry(5, 5), 6)) == [5, 6]
    assert ordinals(until(entry(5, 5), 60)) == [5, 6, 7, 8, 9]
