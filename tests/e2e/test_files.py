"""Real files through the whole pipeline: final books, what a client holds, what SQLite holds and what is exported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.persist.sql import connect
from services.persist.store import feeds_in
from shared.dbn import Reader
from shared.embedded import EmbeddedBroker
from shared.units import px_to_str
from shared.wire.keys import feed_name
from tests.support.dbn_files import read_dbn
from tests.support.pipeline import BookClient, Pipeline

CLX5 = "clx5-20250924.mbo.dbn"
ESM4 = "esm4-20240508-snapshot.mbo.dbn.zst"
ARL = ("arl-20250717.mbo.v1.dbn", "arl-20250717.mbo.v2.dbn.zst", "arl-20250717.mbo.v3.dbn.zst")
RECORDS = {CLX5: 38_212, **dict.fromkeys(ARL, 5_886)}


def run(data: Path, *args: str, client: bool = False) -> tuple[list[dict[str, Any]], BookClient | None]:
    """`mbo up … --drain`; the final books by line and the client that listened, if any."""
    with Pipeline(data, "--policy", "raw", "--drain", *args) as pipeline:
        follower = None
        if client:
            follower = BookClient(pipeline.address())
            follower.start()
        status = pipeline.wait()
        assert status == 0, pipeline.log[-4000:]
        assert "Traceback" not in pipeline.log
    if follower is not None:
        follower.join(10)
        assert follower.error is None, follower.error
        assert follower.bye == "ended"
    lines = (data / "final-books.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], follower


def stored_records(data: Path) -> int:
    """Records in all stores of a data folder, as `mbo sql` counts them."""
    total = 0
    for feed in feeds_in(str(data)):
        db, _ = connect(str(data), feed)
        total += db.cursor().execute("SELECT count(*) FROM mbo").fetchone()[0]
        db.close()
    return total


def exported_as_it_was(data: Path, *paths: Path) -> None:
    """`mbo export` of every symbol of these files is, record for record, what they hold, by the databento client."""
    for path in paths:
        source = read_dbn(path)
        records, feed = source.to_ndarray(), feed_name(source.dataset)
        with Reader(path) as reader:
            instruments = reader.metadata.instruments()
        for one in instruments:
            out = data / f"{one.symbol}.dbn"
            command = ["export", one.symbol, "--data", str(data), "--feed", feed, "--out", str(out)]
            subprocess.run([sys.executable, "-m", "services", *command], check=True, capture_output=True)
            own = records[records["instrument_id"] == one.instrument_id]
            assert read_dbn(out).to_ndarray().tobytes() == own.tobytes()


def truth_of_clx5(folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    levels = json.loads((folder / "clx5-20250924.final-book.json").read_text())["instruments"][0][
        "publishers"
    ][0]["levels"]

    def side(name: str) -> list[list[int]]:
        return [
            [round(Decimal(str(row["price"])) * 10**9), row["size"], row["count"]] for row in levels[name]
        ]

    return side("bids"), side("asks")


def rebuilt(*paths: Path) -> list[dict[str, Any]]:
    """The same files through `mbo rebuild`: one engine, no pipeline."""
    command = [sys.executable, "-m", "services", "rebuild", "--policy", "raw", *map(str, paths)]
    return [
        json.loads(line)
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    ]


def by_symbol(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {line["symbol"]: line for line in lines}


@pytest.mark.parametrize(
    ("books", "rate"),
    [
        ("2", "5000"),
        pytest.param("1", "0", marks=pytest.mark.slow),
        pytest.param("4", "0", marks=pytest.mark.slow),
    ],
)
def test_clx5_equals_its_truth_everywhere(market_data: Path, tmp_path: Path, books: str, rate: str) -> None:
    """In the final books, in what a client that listened ends with, and in the count of what is stored."""
    data = tmp_path / "data"
    final, client = run(
        data, "--source", str(market_data / CLX5), "--books", books, "--rate", rate, client=rate != "0"
    )
    bids, asks = truth_of_clx5(market_data)
    assert [(line["symbol"], line["bids"], line["asks"]) for line in final] == [("CLX5", bids, asks)]
    assert stored_records(data) == RECORDS[CLX5]
    exported_as_it_was(data, market_data / CLX5)
    if client is not None:
        shown = [[[px_to_str(px), size, count] for px, size, count in side] for side in (bids, asks)]
        assert [[list(row) for row in side] for side in client.book("CLX5")] == shown
        assert client.events["delta"] > 20
        assert client.ignored == 0


def test_running_again_adds_nothing(market_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first, _ = run(data, "--source", str(market_data / ARL[0]))
    again, _ = run(data, "--source", str(market_data / ARL[0]))
    assert first == again
    assert stored_records(data) == RECORDS[ARL[0]]
    exported_as_it_was(data, market_data / ARL[0])
    assert "nothing added" in data.with_suffix(".log").read_text()


@pytest.mark.parametrize("name", [pytest.param(ARL[1], marks=pytest.mark.slow), ARL[2]])
def test_each_dbn_version_of_a_file_gives_the_same_book(market_data: Path, tmp_path: Path, name: str) -> None:
    final, _ = run(tmp_path / "data", "--source", str(market_data / name))
    assert final == rebuilt(market_data / ARL[0])
    assert stored_records(tmp_path / "data") == RECORDS[name]
    exported_as_it_was(tmp_path / "data", market_data / name)


@pytest.mark.slow
def test_files_of_two_datasets_are_two_feeds(market_data: Path, tmp_path: Path) -> None:
    paths = [market_data / name for name in (CLX5, ESM4, ARL[0])]
    together, _ = run(tmp_path / "data", "--source", *map(str, paths))
    assert by_symbol(together) == {
        symbol: line for path in paths for symbol, line in by_symbol(rebuilt(path)).items()
    }
    assert feeds_in(str(tmp_path / "data")) == ["glbx.mdp3", "xnas.itch"]
    exported_as_it_was(tmp_path / "data", *paths)


def test_the_same_on_redis(market_data: Path, tmp_path: Path) -> None:
    """Debian's redis-server as the broker, on a socket of its own."""
    binary = shutil.which("redis-server")
    if binary is None:
        assert not os.environ.get("CI"), "CI installs redis-server"
        pytest.skip("no redis-server on the PATH")
    server = EmbeddedBroker(tmp_path / "redis", binary=binary)
    server.start()
    try:
        final, _ = run(tmp_path / "data", "--source", str(market_data / ESM4), "--broker", server.url)
    finally:
        server.stop()
    assert final == rebuilt(market_data / ESM4)


@pytest.mark.parametrize("name", ["legacy.mbo.dbz", "not-mbo.mbp-10.dbn.zst"])
def test_a_file_of_another_kind_is_one_clear_line(market_data: Path, tmp_path: Path, name: str) -> None:
    with Pipeline(tmp_path / "data", "--drain", "--source", str(market_data / name)) as pipeline:
        assert pipeline.wait() == 1
        assert name in pipeline.log
        assert "Traceback" not in pipeline.log


def test_a_truncated_file_is_taken_to_its_last_whole_record(market_data: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.dbn"
    shutil.copyfile(market_data / CLX5, cut)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size - 30)
    run(tmp_path / "data", "--source", str(cut))
    assert stored_records(tmp_path / "data") == RECORDS[CLX5] - 1
    assert "truncated" in (tmp_path / "data.log").read_text()
