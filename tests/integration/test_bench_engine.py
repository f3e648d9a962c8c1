"""`mbo bench engine --json`: the keys others rely on, and all engines of a run with the same result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from services.__main__ import dispatch
from shared.dbn import Metadata, Writer
from tests.support.orderbook import plausible


@pytest.mark.slow
def test_engines_of_a_run_agree_and_name_what_they_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flow.dbn"
    with Writer(path, Metadata(dataset="XTST.BOOK")) as out:
        out.write(plausible(1, 2000))
    assert dispatch(["bench", "engine", "--quick", "--repeat", "1", "--json", "--file", str(path)]) == 0
    results = json.loads(capsys.readouterr().out)
    for result in results:
        assert result.keys() >= {
            "engine",
            "data",
            "outputs",
            "records",
            "seconds",
            "records_per_s",
            "bbo_hash",
        }
        assert result["records_per_s"] == pytest.approx(result["records"] / result["seconds"])
    hashes: dict[str, set[str]] = {}
    for result in results:
        if result["engine"] != "nautilus":  # its figures have no counts
            hashes.setdefault(result["data"], set()).add(result["bbo_hash"])
    assert all(len(found) == 1 for found in hashes.values()), hashes
    engines = {result["engine"] for result in results}
    assert engines >= {"numba", "reference", "databento-example"}
    assert ("c++" in engines) == (shutil.which("g++") is not None)
    assert (
        sum(data.startswith("flow.dbn") for data in hashes) == 4
    )  # with an R between passes and without; parts of both
