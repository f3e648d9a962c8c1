"""What ingest keeps below its data folder: one process at a time writes there, and never deletes what is another's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.ingest.service import IngestService
from services.ingest.settings import IngestSettings
from services.ingest.sources.journal import Tokens, give_up
from services.ingest.sources.live import LiveSource
from services.ingest.sources.options import SourceOptions
from shared.errors import UsageError
from tests.support.fake_live_gateway import KEY


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)


def live(folder: Path, **options: Any) -> LiveSource:
    given = {"dataset": "TEST.SET", "data": folder, **options}
    return LiveSource(SourceOptions(source=("live",), **given))


def test_a_second_ingest_that_keeps_files_in_the_folder_is_refused(broker_url: str, tmp_path: Path) -> None:
    config = IngestSettings(broker=broker_url, data=tmp_path, source=("live",), dataset="TEST.SET")
    first = IngestService(config)
    try:
        with pytest.raises(UsageError, match=rf"another ingest \(pid {os.getpid()}\)"):
            IngestService(config)
        IngestService(
            IngestSettings(broker=broker_url, data=tmp_path)
        ).close()  # the simulator keeps nothing there
    finally:
        first.close()
    IngestService(config).close()


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "--source", "live", "--dataset", "TEST.SET", "--gateway", "127.0.0.1:9"),
        ("ingest", "--source", "historical", "--dataset", "TEST.SET", "--start", "2025-01-01", "--end", "2025-01-02"),
    ],
)  # fmt: skip
def test_it_says_so_in_one_line_and_exits_2(broker_url: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    config = IngestSettings(broker=broker_url, data=tmp_path, source=("live",), dataset="OTHER.SET")
    first = IngestService(config)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "services", *words, "--data", str(tmp_path), "--broker", broker_url],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        first.close()
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: another ingest")
    assert "--data" in line


def test_a_journal_that_is_given_up_is_moved_aside_and_the_other_feeds_stay(tmp_path: Path) -> None:
    ours, other = live(tmp_path), live(tmp_path, feed="other")
    ours.claim("token-1", set())
    other.claim("token-2", {"token-2"})  # of the same dataset: written by nobody before
    segment = tmp_path / "journal" / "test.set" / "7" / "00000000-0.dbn"
    segment.parent.mkdir()
    segment.write_bytes(b"kept")
    ours.claim("token-3", {"token-1"})
    assert segment.exists(), "its own journal goes on"
    ours.claim("token-4", {"somebody else's"})
    assert not segment.exists()
    assert (tmp_path / "journal" / "test.set.given-up" / "7" / segment.name).read_bytes() == b"kept"
    assert Tokens(tmp_path / "journal" / "test.set" / "tokens").has_all({"token-4"})
    assert Tokens(tmp_path / "journal" / "other" / "tokens").has_all({"token-2"})


def test_of_journals_moved_aside_the_last_is_kept_and_foreign_files_always(tmp_path: Path) -> None:
    folder = tmp_path / "test.set"
    aside = tmp_path / "test.set.given-up"

    def made(name: str) -> None:
        (folder / "7").mkdir(parents=True)
        (folder / "tokens").write_text(name)
        (folder / "7" / "00000000-0.dbn").write_text(name)
        (folder / "7" / "00000000-0.npz").write_text(name)

    for name in ("first", "second"):
        made(name)
        assert give_up(folder) == aside
        assert (aside / "7" / "00000000-0.dbn").read_text() == name
    (aside / "7" / "notes.txt").write_text("a person's")
    made("third")
    last = give_up(folder)
    assert last != aside
    assert (last / "7" / "00000000-0.dbn").read_text() == "third"
    assert [path.name for path in aside.rglob("*.*")] == ["notes.txt"]
