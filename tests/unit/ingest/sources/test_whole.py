"""After a gap without a snapshot: the books are whole when each has begun anew, not before, and whatever is a batch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.annotate import DAY_NS, Annotator, gap
from services.ingest.sources.whole import Waiting
from shared.dbn import InstrumentSymbol, Message
from shared.records import Rows
from shared.units import F_LAST, F_SNAPSHOT
from tests.support.mbo import record, rows

MIDNIGHT_NS = 1_700_006_400_000_000_000  # 2023-11-15
SNAPSHOT = F_SNAPSHOT | F_LAST


def of(instrument: int, action: str, publisher: int = 1, **fields: Any) -> dict[str, Any]:
    return record(action, instrument_id=instrument, publisher_id=publisher, **fields)


def plainly(wrong: set[tuple[int, int]], only: set[int], records: Rows) -> int:
    """The same, one record after the other."""
    wrong, begun = set(wrong), set()
    for index, row in enumerate(records):
        book = (int(row["publisher_id"]), int(row["instrument_id"]))
        is_clear = chr(row["action"]) == "R"
        if is_clear:
            wrong.discard(book)
            begun.add(book)
            continue
        if book not in begun and book[1] in only:
            wrong.add(book)
        if not wrong and not row["flags"] & F_SNAPSHOT:
            return index
    return -1


record_lists = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.sampled_from("RRAAC"), st.sampled_from((F_LAST, SNAPSHOT))),
    min_size=1,
    max_size=30,
)  # fmt: skip


@given(record_lists, st.sets(st.tuples(st.integers(1, 2), st.integers(1, 3))), st.data())
def test_it_is_what_a_look_at_each_record_says_however_they_are_cut(
    made: list[tuple[int, int, str, int]], wrong: set[tuple[int, int]], data: st.DataObject
) -> None:
    records = rows(*(of(i, action, publisher, flags=flags) for i, publisher, action, flags in made))
    expected = plainly(wrong, {instrument for _, instrument in wrong}, records)
    waiting, at, found = Waiting(wrong), 0, -1
    while at < len(records) and found < 0:
        size = data.draw(st.integers(1, len(records)))
        found = waiting.take(records[at : at + size])
        found = found + at if found >= 0 else -1
        at += size
        waiting = Waiting.restored(json.loads(json.dumps(waiting.facts())))
    assert found == expected


def said(annotator: Annotator, *items: Any) -> list[Any]:
    """What comes out: "gap", "recovered" and the number of records between."""
    out: list[Any] = []
    for item in annotator.items(items):
        if isinstance(item, np.ndarray):
            out.append(len(item))
        elif item is not None and item["type"] in ("gap", "recovered", "day"):
            out.append(item["type"])
    return out


def missing(*books: tuple[int, int]) -> Message:
    return gap("cut off", None, None, has_snapshot=False, books=books)


def test_a_gap_of_a_file_is_over_when_each_of_its_books_has_its_snapshot() -> None:
    annotator = Annotator([])
    before = rows(of(1, "A"), of(2, "A"), of(3, "A"))
    assert said(annotator, before, missing((1, 1), (1, 2))) == [3, "gap"]
    first = rows(of(1, "R", flags=F_SNAPSHOT), of(1, "A", flags=SNAPSHOT), of(1, "C"), of(3, "C"))
    assert said(annotator, first) == [4], "the other is still wrong"
    annotator_again = Annotator([])
    annotator_again.restore(json.loads(json.dumps(annotator.facts())))
    second = rows(of(2, "R", flags=F_SNAPSHOT), of(2, "A", flags=SNAPSHOT), of(3, "A"), of(3, "C"))
    assert said(annotator, second) == said(annotator_again, second) == [2, "recovered", 2]
    assert said(annotator, rows(of(1, "R"))) == [1], "said once"


def test_an_instrument_whose_name_has_ended_is_not_waited_for() -> None:
    names = [InstrumentSymbol(1, "ONE", 0, MIDNIGHT_NS + DAY_NS), InstrumentSymbol(2, "TWO", 0, MIDNIGHT_NS)]
    annotator = Annotator(names)
    times = {"ts_recv": MIDNIGHT_NS - 1}
    later = {"ts_recv": MIDNIGHT_NS + 1}
    assert said(annotator, rows(of(1, "A", **times), of(2, "A", **times)), missing((1, 1), (1, 2))) == [
        2,
        "gap",
    ]
    assert said(annotator, rows(of(1, "R", **later), of(1, "A", **later))) == ["day", 1, "recovered", 1]


def test_live_that_begins_without_a_snapshot_waits_for_every_name_it_is_given() -> None:
    annotator = Annotator([])
    begins = gap("begins without a snapshot", None, None, has_snapshot=False)
    names = [
        Message("mapping", each, 0, {"symbol": f"S{each}", "start": None, "end": None}) for each in (1, 2)
    ]
    assert said(annotator, begins, *names, rows(of(1, "A"), of(1, "R"), of(1, "A"))) == ["gap", 3]
    assert said(annotator, rows(of(2, "R"), of(1, "A"))) == [1, "recovered", 1]


def test_live_waits_past_a_midnight_only_for_what_it_has_seen() -> None:
    annotator = Annotator([])
    begins = gap("begins without a snapshot", None, None, has_snapshot=False)
    names = [
        Message("mapping", each, 0, {"symbol": f"S{each}", "start": None, "end": None}) for each in (1, 2)
    ]
    seen = rows(of(1, "A", ts_recv=MIDNIGHT_NS - 1))
    assert said(annotator, begins, *names, seen) == ["gap", 1]
    times = {"ts_recv": MIDNIGHT_NS + 1}
    assert said(annotator, rows(of(1, "R", **times), of(1, "A", **times))) == ["day", 1, "recovered", 1]


def test_a_snapshot_that_is_asked_for_later_ends_the_waiting() -> None:
    annotator = Annotator([])
    lost = gap("the journal lost records", None, None)
    assert said(annotator, missing((1, 1)), lost, rows(of(1, "R"), of(1, "A"))) == ["gap", "gap", 2]
    assert said(annotator, Message("recovered", 0, 0, {})) == ["recovered"]
