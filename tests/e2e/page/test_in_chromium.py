"""The page in a real browser: every file of tests here, one pytest case a file, run by node's own test runner.

What a fault looks like is tried on the fake gateway, which can cause each on demand; everything else on a real pipeline
(`BASE_URL` in the environment of node): one with a simulated market, one with a real file, replayed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from shared.dbn import Reader
from shared.orderbook.shard import ShardState
from shared.units import F_LAST, px_to_str
from shared.wire.codec import InEntry
from tests.e2e.page.mishaps import Mishaps
from tests.support import eventually
from tests.support.pipeline import Pipeline

HERE = Path(__file__).parent
ON_FAKE = ("states.test.mjs", "rare.test.mjs")
ON_REAL = (
    "ladder.test.mjs",
    "screen.test.mjs",
    "panels.test.mjs",
    "replay.test.mjs",
    "kills.test.mjs",
)  # kills last
MANY = 3000  # instruments
CLX5 = "clx5-20250924.mbo.dbn"
AFTER = (
    9_000,
    21_000,
    33_000,
    38_180,
)  # the page's book is compared after these records; crossed after the last

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def node(name: str, **environ: str) -> None:
    command, chromium = shutil.which("node"), os.environ.get("CHROMIUM", "/usr/bin/chromium")
    assert command, "node is not installed: `make browser`"
    assert Path(chromium).exists(), "no Chromium: `make browser`, or name one in CHROMIUM"
    assert (HERE / "node_modules").is_dir(), "`npm ci` in tests/e2e/page first: `make browser`"
    run = subprocess.run(
        [command, "--test", "--test-concurrency=1", name],
        cwd=HERE,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr


def recorded(address: str) -> list[dict[str, Any]]:
    """Instruments with history, as soon as there are any."""

    def ask() -> list[dict[str, Any]]:
        try:
            rows = httpx.get(f"{address}/v1/instruments", timeout=5).json()["instruments"]
        except (httpx.HTTPError, ValueError, KeyError):
            return []
        return [row for row in rows if row["first"]]

    return eventually(ask, timeout_s=60, every_s=0.2)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a pipeline with a simulated market and two book workers."""
    data = tmp_path_factory.mktemp("page") / "data"
    with Pipeline(data, "--source", "sim", "--speed", "1", "--books", "2", "--seed", "7") as pipeline:
        address = pipeline.address()
        recorded(address)
        yield address


@pytest.mark.parametrize("name", ON_FAKE)
def test_on_the_fake_gateway(name: str) -> None:
    node(name)


@pytest.mark.parametrize("name", ON_REAL)
def test_on_a_real_pipeline(name: str, simulated: str) -> None:
    node(name, BASE_URL=simulated)


def test_what_goes_wrong_with_a_real_pipeline_is_said_and_taken_back(tmp_path: Path) -> None:
    with Mishaps(tmp_path) as mishaps:
        node("honest.test.mjs", BASE_URL=mishaps.address, CONTROL=mishaps.control)


@pytest.mark.slow
def test_thousands_of_instruments(tmp_path: Path) -> None:
    sim = ("--source", "sim", "--speed", "1", "--instruments", str(MANY), "--sim-rate", "5000")
    with Pipeline(tmp_path / "data", *sim) as pipeline:
        address = pipeline.address()
        eventually(lambda: known(address) == MANY, timeout_s=60, every_s=0.2)
        node("many.test.mjs", BASE_URL=address)


def known(address: str) -> int:
    """How many instruments the gateway knows of."""
    try:
        return int(httpx.get(f"{address}/v1/instruments?limit=1", timeout=5).json()["total"])
    except (httpx.HTTPError, ValueError, KeyError):
        return 0


def test_every_file_is_run() -> None:
    alone = {"clx5.test.mjs", "honest.test.mjs", "many.test.mjs"}
    assert {path.name for path in HERE.glob("*.test.mjs")} == {*ON_FAKE, *ON_REAL, *alone}


def instants(file: Path) -> list[dict[str, Any]]:
    """The reference engine's books at some instants of a file, as the API writes them."""
    with Reader(file) as reader:
        records = np.concatenate([part.records for part in reader.parts() if part.records is not None])
    ts, last = records["ts_recv"], (records["flags"] & F_LAST) != 0
    ends = np.flatnonzero(last[:-1] & (ts[:-1] < ts[1:]))  # there a time names one state of the book
    state, done, found = ShardState("uncross", kind="reference"), 0, []
    auction: dict[str, Any] | None = None
    for wanted in AFTER:
        end = int(ends[np.searchsorted(ends, wanted)]) + 1
        batch = state.apply(InEntry(end - done, done + 1, 0, 0, 0, records[done:end], None))
        done = end
        for row in batch.auctions:
            auction = (
                {"price": px_to_str(int(row["price"])), "size": int(row["size"])} if row["present"] else None
            )
        bids, asks = state.engine.view(*state.engine.books()[0], None)
        sides = {
            name: [[px_to_str(level.price), level.size, level.count] for level in levels]
            for name, levels in (("bids", bids), ("asks", asks))
        }
        found.append({"t": str(ts[end - 1]), "auction": auction, **sides})
    return found


def test_replay_of_a_real_file_shows_the_reference_engines_books(tmp_path: Path) -> None:
    folder = os.environ.get("MBO_TEST_DATA")
    if not folder or not (Path(folder) / CLX5).exists():
        pytest.skip("set MBO_TEST_DATA to a folder with the real files")
    file = Path(folder) / CLX5
    with Pipeline(tmp_path / "data", "--source", str(file)) as pipeline:
        address = pipeline.address()
        recorded(address)
        node("clx5.test.mjs", BASE_URL=address, INSTANTS=json.dumps(instants(file)))
