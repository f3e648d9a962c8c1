"""A watched folder: files as they come, the same sequence after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.ingest.sources import watch
from services.ingest.sources.factory import make_sources
from services.ingest.sources.options import SourceOptions
from services.ingest.sources.watch import WatchSource
from shared.errors import SourceError, UsageError
from shared.records import Rows
from tests.support import eventually
from tests.support.dbn_files import metadata, write
from tests.support.mbo import random_rows


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.0)


def at(seed: int) -> Rows:
    rows = random_rows(100, seed=seed)
    rows["ts_recv"] += np.uint64(seed * 1_000_000_000)
    return rows


def source(folder: Path, tmp_path: Path, **options: Any) -> WatchSource:
    (made,) = make_sources(
        SourceOptions(source=(str(folder),), watch=True, data=tmp_path / "data", **options)
    )
    assert isinstance(made, WatchSource)
    return made


def take(one: WatchSource, count: int) -> list[bytes]:
    """Items until `count` records have come."""
    items: list[bytes] = []
    records = 0

    def enough() -> bool:
        nonlocal records
        chunk = one.read(33, 0.0)
        if chunk is not None and chunk.records is not None:
            items.extend(row.tobytes() for row in chunk.records)
            records += len(chunk.records)
        elif chunk is not None and chunk.control is not None:
            items.append(repr(chunk.control).encode())
        return records >= count

    eventually(enough, every_s=0)
    return items


def test_files_come_as_they_appear_and_again_in_that_order(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "m.dbn", at(1))
    first = source(folder, tmp_path)
    first.open(0, first.spec)
    items = take(first, 100)
    write(folder / "z.dbn.zst", at(2))
    items += take(first, 100)
    write(folder / "a.dbn", at(3))
    items += take(first, 100)
    assert first.read(10, 0.0) is None
    assert len(items) == 301, "the mapping is given once"
    again = source(folder, tmp_path)
    assert again.identity == first.identity
    for position in (0, 1, 150, 301):
        again.open(position, first.spec)
        assert take(again, 300 - max(position - 1, 0)) == items[position:] or position == 301


def test_a_growing_file_is_waited_for_and_a_bad_one_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "bad.dbn").write_bytes(b"no DBN at all")
    write(folder / "other.dbn", at(1), metadata("OTHER.SET"))
    one = source(folder, tmp_path, dataset="TEST.SET")
    one.open(0, one.spec)
    whole = write(tmp_path / "a.dbn", at(4)).read_bytes()
    growing = folder / "g.dbn"
    for size in range(100, len(whole), 700):
        growing.write_bytes(whole[:size])
        assert one.read(10, 0.0) is None
    growing.write_bytes(whole)
    take(one, 100)
    said = capsys.readouterr().err
    assert "bad.dbn: is not a DBN file" in said
    assert "is of dataset OTHER.SET" in said


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        source(tmp_path / "nope", tmp_path)
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="say which --dataset"):
        source(tmp_path / "in", tmp_path)
    with pytest.raises(UsageError, match="one folder"):
        source(tmp_path / "in", tmp_path, loop=True)


def test_a_file_that_has_changed_since_it_was_taken_is_said(tmp_path: Path) -> None:
    """Its items would be others, and those of all files after it in another place: nothing could be resumed."""
    folder = tmp_path / "in"
    folder.mkdir()
    whole = write(folder / "a.dbn", at(1)).read_bytes()
    (folder / "a.dbn").write_bytes(whole[: -56 * 10])
    write(folder / "b.dbn", at(2))
    one = source(folder, tmp_path)
    one.open(0, one.spec)
    take(one, 150)
    (folder / "a.dbn").write_bytes(whole)
    with pytest.raises(SourceError, match=r"a\.dbn has changed or is gone.*restore them"):
        source(folder, tmp_path).open(150, one.spec)


def test_files_that_went_missing_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = write(folder / "a.dbn", at(1))
    one = source(folder, tmp_path)
    one.open(0, one.spec)
    take(one, 100)
    path.unlink()
    again = source(folder, tmp_path, dataset="TEST.SET")
    with pytest.raises(SourceError, match="restore them"):
        again.open(101, one.spec)


def test_an_order_that_another_version_wrote_down_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.dbn", at(1))
    one = source(folder, tmp_path)
    one.open(0, one.spec)
    take(one, 100)
    (noted,) = (tmp_path / "data").rglob("*.json")
    noted.write_text('["a.dbn"]')
    with pytest.raises(SourceError, match=r"cannot be read.*start over with --fresh"):
        source(folder, tmp_path).open(100, one.spec)


@pytest.mark.parametrize(("bad", "reason"), [("cut", "m.dbn is cut off"), ("damaged", "m.dbn is damaged")])
def test_what_is_missing_of_a_file_is_a_gap_until_the_next_one_begins_anew(
    tmp_path: Path, bad: str, reason: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    first = random_rows(1500)  # the first 1,000 are looked at before the file is taken
    first["instrument_id"] = 1
    path = write(folder / "m.dbn", first)
    content = bytearray(path.read_bytes())
    if bad == "damaged":
        content[-56 * 10 : -56 * 10 + 2] = b"\0\0"
    path.write_bytes(content[:-10])
    one = source(folder, tmp_path)
    one.open(0, one.spec)
    found: list[object] = []  # types of controls, numbers of records

    def come(*expected: object) -> bool:
        if (chunk := one.read(2000, 0.0)) is not None:
            found.append(len(chunk.records) if chunk.records is not None else (chunk.control or {})["type"])
            reasons.append((chunk.control or {}).get("reason"))
        return found == list(expected)

    reasons: list[object] = []
    whole = 1499 if bad == "cut" else 1490
    eventually(lambda: come("mapping", whole, "gap"), every_s=0)
    assert reasons[-1] == reason
    following = at(2)
    following["instrument_id"], following["action"][:1] = 1, ord("R")
    write(folder / "n.dbn", following)
    eventually(lambda: come("mapping", whole, "gap", 1, "recovered", 99), every_s=0)
