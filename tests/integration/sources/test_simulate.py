"""`mbo simulate`: files with true books, the same for the same seed, in constant memory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import databento
import numpy as np
import pytest

from services import simulate
from shared.dbn import Reader
from shared.errors import SourceError, UsageError
from shared.orderbook.engines import make_engine
from shared.records import MBO, Rows
from shared.units import SIDE_ASK, SIDE_BID


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return simulate.run(parser.parse_args(list(words)))


def records(path: Path) -> Rows:
    with Reader(path) as reader:
        parts = [part.records for part in reader.parts() if part.records is not None]
    return np.concatenate(parts) if parts else np.empty(0, MBO)


@pytest.mark.parametrize("kind", ["numba", "reference"])
def test_a_rebuild_of_the_file_gives_its_truth(tmp_path: Path, kind: str) -> None:
    out, truth = tmp_path / "s.dbn.zst", tmp_path / "t.jsonl"
    assert (
        run(str(out), "--instruments", "12", "--messages", "30000", "--seed", "5", "--truth", str(truth)) == 0
    )
    rows = records(out)
    assert len(rows) == 30_000
    engine = make_engine("raw", kind)
    engine.apply(rows, 1)
    engine.end()
    assert engine.anomalies() == {}
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [(line["publisher_id"], line["instrument_id"]) for line in lines] == engine.books()
    for line in lines:
        for side, name in ((SIDE_BID, "bids"), (SIDE_ASK, "asks")):
            levels = engine.levels(line["publisher_id"], line["instrument_id"], side)
            assert [list(level) for level in levels] == line[name]


def test_the_file_is_one_that_databento_reads_and_names_its_instruments(tmp_path: Path) -> None:
    out = tmp_path / "s.dbn"
    run(str(out), "--instruments", "3", "--messages", "2000")
    store = databento.DBNStore.from_bytes(out.read_bytes())
    assert store.symbols == ["ESZ6", "NQZ6", "CLF7"]
    assert len(store.to_ndarray()) == 2000


def test_the_seed_decides(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(str(tmp_path / name), "--messages", "3000", "--seed", str(seed))
    first, same, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == same != other


@pytest.mark.parametrize(
    "words",
    [("--instruments", "0"), ("--messages", "0"), ("--days", "0"), ("--rate", "-1"), ("--seed", "-1")],
)
def test_wrong_numbers_are_refused(tmp_path: Path, words: tuple[str, str]) -> None:
    with pytest.raises(UsageError):
        run(str(tmp_path / "s.dbn"), *words)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be written"):
        run(str(tmp_path / "no" / "folder" / "s.dbn"), "--messages", "10")
