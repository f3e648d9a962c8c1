"""Databento Live through the whole pipeline: `mbo up --source live` on a gateway that speaks the real protocol.

Whatever happens to connections and to ingest itself, books and stored records are those of the file that the gateway
plays; a gap is said until the books are whole again; what only a person can mend is one line and status 1.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import databento_dbn as dbn
import httpx
import numpy as np
import pytest

from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from services.persist.sql import connect
from shared.dbn import Reader
from shared.orderbook.engines import make_engine
from shared.orderbook.lines import final_lines
from shared.records import Rows
from shared.units import UNDEF_PX
from shared.wire.keys import feed_name
from tests.chaos.processes import running
from tests.support import eventually
from tests.support.fake_live_gateway import KEY, FakeGateway
from tests.support.pipeline import Pipeline

DROPS = 50
CLX5 = "clx5-20250924.mbo.dbn"
COLUMNS = (
    "publisher_id", "instrument_id", "ts_event", "ts_recv", "price_px", "size", "flags", "channel_id", "sequence",
    "ts_in_delta",
)  # fmt: skip


def simulated() -> FakeGateway:
    """60,000 records of six instruments, two of them at two venues: enough for an auction, a halt, snapshots."""
    spec = MarketSpec(seed=5, instruments=6, messages=60_000, rate=6000, day_s=6.0, overnight=True)
    market = Simulation(spec)
    rows = np.concatenate([item for item in market.items() if not isinstance(item, dict)])
    return FakeGateway(rows, {one.instrument_id: one.symbol for one in market.instruments})


def played(path: Path) -> FakeGateway:
    with Reader(path) as reader:
        symbols = {one.instrument_id: one.symbol for one in reader.metadata.instruments()}
        rows = np.concatenate([part.records for part in reader.parts() if part.records is not None])
        return FakeGateway(rows, symbols, dataset=reader.metadata.dataset)


@pytest.fixture(params=[pytest.param("simulated", marks=pytest.mark.slow), CLX5])
def gateway(request: pytest.FixtureRequest) -> Iterator[FakeGateway]:
    made = simulated() if request.param == "simulated" else played(
        request.getfixturevalue("market_data") / request.param
    )  # fmt: skip
    made.heartbeat_s = 0.2
    with made as running_one:
        yield running_one


def live(gateway: FakeGateway, folder: Path, *more: str) -> list[str]:
    """Options of a live source on `gateway` that ends when its market has ended."""
    key = folder / "key"
    key.write_text(KEY)
    end = str(int(gateway.records["ts_recv"].max()) + 1)
    return [
        "--source", "live", "--dataset", gateway.dataset, "--gateway", gateway.address, "--key-file", str(key),
        "--end", end, *more,
    ]  # fmt: skip


def books_of(rows: Rows, symbols: dict[int, str]) -> list[str]:
    engine = make_engine("raw", "reference")
    engine.apply(rows, 1)
    engine.end()
    return sorted(final_lines(engine, symbols))


def stored(data: Path, dataset: str) -> dict[int, list[tuple[object, ...]]]:
    """All records of the store by instrument, in the order of their ordinals."""
    db, _ = connect(str(data), feed_name(dataset))
    names = ", ".join(COLUMNS)
    found: dict[int, list[tuple[object, ...]]] = {}
    query = f"SELECT {names}, order_id, action, side FROM mbo ORDER BY shard, ordinal"
    for row in db.cursor().execute(query):
        found.setdefault(row[1], []).append(row)
    db.close()
    return found


def expected(rows: Rows) -> dict[int, list[tuple[object, ...]]]:
    found: dict[int, list[tuple[object, ...]]] = {}
    fields = [name.removesuffix("_px") for name in COLUMNS]
    for row in rows:
        values: list[int | None] = [int(row[name]) for name in fields]
        values[4] = None if values[4] == UNDEF_PX else values[4]
        words = str(int(row["order_id"])), chr(row["action"]), chr(row["side"])
        found.setdefault(int(row["instrument_id"]), []).append((*values, *words))
    return found


def is_that_of_the_file(data: Path, gateway: FakeGateway) -> None:
    final = (data / "final-books.jsonl").read_text(encoding="utf-8").splitlines()
    assert final == books_of(gateway.records, gateway.symbols)
    assert stored(data, gateway.dataset) == expected(gateway.records)


def test_fifty_forced_disconnects_leave_the_books_and_records_of_the_file(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    size = gateway.records.nbytes / DROPS
    cuts = np.random.default_rng(2).uniform(0.75, 0.95, DROPS) * size  # at any byte, in a record mostly
    gateway.drops.extend(int(cut) for cut in cuts)
    data = tmp_path / "data"
    with Pipeline(data, *live(gateway, tmp_path), "--policy", "raw", "--books", "2", "--drain") as pipeline:
        assert pipeline.wait() == 0, pipeline.log[-4000:]
        assert "Traceback" not in pipeline.log
        assert "live gap" not in pipeline.log
    assert not gateway.drops, "all fifty happened"
    assert gateway.connections > DROPS
    is_that_of_the_file(data, gateway)


def test_killing_ingest_again_and_again_leaves_the_same(tmp_path: Path) -> None:
    """SIGKILL: the next one reads its journal, then goes on live where that ends."""
    data = tmp_path / "data"
    with simulated() as gateway:
        gateway.heartbeat_s, gateway.limit = 0.2, 9_000
        gateway.drops.extend([400_000, 300_000, 500_000])
        with Pipeline(data, *live(gateway, tmp_path), "--policy", "raw", "--drain") as pipeline:
            address = pipeline.address()

            def appended() -> int:
                try:
                    (feed,) = httpx.get(f"{address}/v1/pipeline", timeout=5).json()["feeds"]
                    return sum(shard["in"] or 0 for shard in feed["shards"])
                except (httpx.HTTPError, ValueError, KeyError):
                    return 0

            def reached() -> bool:
                return appended() >= gateway.limit

            for limit in (9_000, 25_000, 41_000):
                gateway.limit = limit
                eventually(reached, timeout_s=60)
                (ingest,) = [each.pid for each in running(pipeline.process.pid) if each.role == "ingest"]
                os.kill(ingest, signal.SIGKILL)
            gateway.limit = len(gateway.records)
            assert pipeline.wait() == 0, pipeline.log[-4000:]
            assert "Traceback" not in pipeline.log
            assert "live gap" not in pipeline.log
        is_that_of_the_file(data, gateway)


def test_a_gap_is_said_until_the_books_are_whole_again(tmp_path: Path) -> None:
    """What the user sees of a replay that Databento does not have any more: stale, then a snapshot, then not."""
    data = tmp_path / "data"
    with simulated() as gateway:
        gateway.heartbeat_s = 0.2
        gateway.limit = 20_000
        with Pipeline(data, *live(gateway, tmp_path), "--policy", "raw", "--drain") as pipeline:
            address = pipeline.address()
            symbol = next(iter(gateway.symbols.values()))

            def book() -> dict[str, object]:
                try:
                    return dict(httpx.get(f"{address}/v1/book/{symbol}", timeout=5).json())
                except (httpx.HTTPError, ValueError):
                    return {}

            eventually(lambda: book().get("bids"), timeout_s=60)
            assert book()["stale"] is False
            gateway.oldest_index = 30_000
            gateway.refusals.extend(["open connection limit reached"] * 8)  # time to look at it
            gateway.cursor = gateway.limit = 40_000
            gateway.break_after = 5  # and the first snapshot breaks
            gateway.drop()
            eventually(lambda: book().get("stale") is True, timeout_s=30)
            eventually(lambda: book().get("stale") is False, timeout_s=30)
            gateway.limit = len(gateway.records)
            assert pipeline.wait() == 0, pipeline.log[-4000:]
            assert "not in the replay window" in pipeline.log
            assert pipeline.log.count('"live gap"') == 2, "not one for each connection that is refused"
        final = [json.loads(line) for line in (data / "final-books.jsonl").read_text().splitlines()]
        truth = [json.loads(line) for line in books_of(gateway.records, gateway.symbols)]
        for line, true in zip(final, truth, strict=True):
            assert (line["symbol"], line["bids"], line["asks"]) == (
                true["symbol"],
                true["bids"],
                true["asks"],
            )


@pytest.mark.parametrize(
    ("options", "fault", "says"),
    [
        ((), "key", "Authentication failed"),
        (("--dataset", "OTHER.SET"), "", "Not entitled to dataset OTHER.SET"),
        (("--symbols", "TYPO"), "", "Failed to resolve symbol: TYPO"),
        ((), "schema", "no license for schema mbo"),
    ],
)
def test_what_only_a_person_can_mend_is_one_line_and_status_1(
    broker_url: str, prefix: str, tmp_path: Path, options: tuple[str, ...], fault: str, says: str
) -> None:
    with simulated() as gateway:
        words = live(gateway, tmp_path, "--broker", broker_url, "--prefix", prefix, *options)
        if fault == "key":
            (tmp_path / "key").write_text("db-this-key-is-wrong-0000000000")
        if fault == "schema":
            gateway.rejects.append((says, dbn.ErrorCode.INVALID_SUBSCRIPTION))
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MBO_")}
        done = subprocess.run(
            [sys.executable, "-m", "services", "ingest", "--data", str(tmp_path), "--log-level", "error", *words],
            capture_output=True, text=True, timeout=60, check=False, env=environ,
        )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert says in lines[0]
    assert "db-this-key" not in done.stderr
