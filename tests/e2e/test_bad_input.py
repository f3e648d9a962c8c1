"""Bad input, each kind once through the whole pipeline: one clear line, nothing half taken, never a trace or a hang.

All the ways a single file can be bad: tests/unit/dbn/test_reader.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from services.persist.sql import connect
from services.persist.store import feeds_in
from shared.dbn.metadata import encode
from shared.orderbook.engines import make_engine
from shared.orderbook.lines import final_lines
from shared.records import MBO, Rows
from tests.support.dbn_files import metadata
from tests.support.mbo import random_rows
from tests.support.pipeline import Pipeline

COUNT = 3_000  # the first 1,000 are looked at before a file is taken
ROWS = random_rows(COUNT, instruments=1)
META = metadata(symbols={"ONE": 1})
GOOD = encode(META) + ROWS.tobytes()


def packed(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def garbage() -> Rows:
    """Records of the right length and type, every other byte at random: hostile, but records."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, COUNT * 56, dtype=np.uint8).view(MBO)
    rows["length"], rows["rtype"], rows["instrument_id"], rows["publisher_id"] = 14, 160, 1, 1
    return rows


HOSTILE = garbage()


@pytest.fixture
def up(broker_url: str, prefix: str, tmp_path: Path) -> Callable[..., Pipeline]:
    def start(*paths: Path) -> Pipeline:
        return Pipeline(
            tmp_path / "data", "--policy", "raw", "--drain", "--broker", broker_url, "--prefix", prefix,
            "--source", *map(str, paths),
        )  # fmt: skip

    return start


def stored(data: Path) -> dict[str, int]:
    """Records by feed."""
    found = {}
    for feed in feeds_in(str(data)):
        db, _ = connect(str(data), feed)
        found[feed] = db.cursor().execute("SELECT count(*) FROM mbo").fetchone()[0]
        db.close()
    return found


def books(rows: Rows) -> list[str]:
    engine = make_engine("raw", "reference")
    engine.apply(rows, 1)
    engine.end()
    return sorted(final_lines(engine, {1: "ONE"}))


REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"ts_event,price\n1,2\n", "is not a DBN file"),
    "wrong-schema": (encode(metadata(schema="mbp-10")), "has schema mbp-10, books need mbo"),
    "claims-4-GB-of-metadata": (b"DBN\x03\xff\xff\xff\xff", "metadata claims"),
    "corrupt-first-record": (encode(META) + bytes(56 * 2000), "record 0 at byte"),
    "zstd-bomb": (packed(encode(META) + bytes(200_000_000)), "record 0 at byte"),
}
BY_INGEST = ("corrupt-first-record", "zstd-bomb")  # `up` does not read records


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_mbo_file_is_refused_in_one_line_and_nothing_is_taken(
    up: Callable[..., Pipeline], tmp_path: Path, kind: str
) -> None:
    content, says = REFUSED[kind]
    path = tmp_path / f"{kind}.dbn"
    path.write_bytes(content)
    with up(path) as pipeline:
        assert pipeline.wait(60) == 1, pipeline.log
        lines = [line for line in pipeline.log.splitlines() if path.name in line]
        assert len(lines) == 1, pipeline.log
        assert says in lines[0]
        assert "Traceback" not in pipeline.log
    if kind in BY_INGEST:
        assert stored(tmp_path / "data") == {}
    else:
        assert not (tmp_path / "data").exists(), "nothing was started for it"


TAKEN = {
    "cut": (GOOD[:-30], ROWS[:-1], "its last 26 bytes are no whole record"),
    "cut-in-compression": (packed(GOOD)[:-5], None, "its compressed stream has no end"),
    "hostile-records": (encode(META) + HOSTILE.tobytes(), HOSTILE, ""),
    "no-records": (encode(META), ROWS[:0], "nothing was taken"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_can_be_taken_of_a_file_is_taken_and_the_rest_said(
    up: Callable[..., Pipeline], tmp_path: Path, kind: str
) -> None:
    content, rows, says = TAKEN[kind]
    path = tmp_path / f"{kind}.dbn"
    path.write_bytes(content)
    with up(path) as pipeline:
        assert pipeline.wait(60) == 0, pipeline.log
        assert says in pipeline.log
        assert "Traceback" not in pipeline.log
    count = stored(tmp_path / "data")["test.set"]
    rows = ROWS[:count] if rows is None else rows
    assert count == len(rows)
    final = (tmp_path / "data" / "final-books.jsonl").read_text(encoding="utf-8").splitlines()
    assert final == books(rows)


def test_a_file_damaged_in_the_middle_ends_in_one_line_and_goes_on_where_it_was_once_it_is_whole(
    up: Callable[..., Pipeline], tmp_path: Path
) -> None:
    path = tmp_path / "corrupt.dbn"
    path.write_bytes(encode(META) + ROWS[:2000].tobytes() + bytes(56) + ROWS[2000:].tobytes())
    with up(path) as pipeline:
        assert pipeline.wait(60) == 1, pipeline.log
        (line,) = [line for line in pipeline.log.splitlines() if "record 2000 at byte" in line]
        assert json.loads(line)["level"] == "error"
        assert "Traceback" not in pipeline.log
    path.write_bytes(GOOD)
    with up(path) as pipeline:
        assert pipeline.wait(60) == 0, pipeline.log
    assert stored(tmp_path / "data") == {"test.set": COUNT}
    assert (tmp_path / "data" / "final-books.jsonl").read_text(encoding="utf-8").splitlines() == books(ROWS)


def test_files_of_two_datasets_are_two_feeds_and_a_twin_is_taken_once(
    up: Callable[..., Pipeline], tmp_path: Path
) -> None:
    other = encode(metadata("OTHER.SET", {"TWO": 1})) + ROWS[:1500].tobytes()
    for name, content in {"a.dbn": GOOD, "twin.dbn": GOOD, "b.dbn.zst": packed(other)}.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    with up(tmp_path / "in") as pipeline:
        assert pipeline.wait(60) == 0, pipeline.log
        assert "file_taken_once" in pipeline.log
    assert stored(tmp_path / "data") == {"test.set": COUNT, "other.set": 1500}
