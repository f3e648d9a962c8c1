"""The pipeline on a cluster while nodes die. The other tests of this folder run on one by `make test-cluster`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.persist.sql import connect
from services.persist.store import feeds_in
from shared.broker import Broker
from tests.support import eventually
from tests.support.cluster import Cluster
from tests.support.pipeline import Pipeline

RECORDS = 60_000


def simulate(folder: Path) -> tuple[Path, list[dict[str, object]]]:
    """A market file and its true final books."""
    market, truth = folder / "market.dbn", folder / "truth.jsonl"
    command = [sys.executable, "-m", "services", "simulate", str(market), "--messages", str(RECORDS)]
    subprocess.run([*command, "--instruments", "20", "--truth", str(truth)], check=True, capture_output=True)
    return market, [json.loads(line) for line in truth.read_text().splitlines()]


@pytest.mark.slow
def test_a_cluster_gives_the_same_books_though_nodes_die(tmp_path: Path) -> None:
    """Two come back at once; the third, the one that everybody was told of, leaves its slots to its replica."""
    market, truth = simulate(tmp_path)
    data = tmp_path / "data"
    with (
        Cluster(tmp_path / "cluster", spare=True) as cluster,
        Pipeline(
            data, "--broker", cluster.url, "--source", str(market), "--rate", "6000", "--books", "2", "--policy", "raw",
            "--drain",
        ) as pipeline,
    ):  # fmt: skip
        probe = Broker(cluster.url)
        eventually(lambda: probe.call("SMEMBERS", probe.keys.feeds), timeout_s=60)
        probe.close()
        for index in (1, 2):
            cluster.aim(index)
            cluster.restart()
        cluster.fail_over()
        assert pipeline.wait(180) == 0, pipeline.log[-4000:]
        assert "Traceback" not in pipeline.log
    final = [json.loads(line) for line in (data / "final-books.jsonl").read_text().splitlines()]
    wanted = {(book["publisher_id"], book["instrument_id"]): (book["bids"], book["asks"]) for book in truth}
    got = {(book["publisher_id"], book["instrument_id"]): (book["bids"], book["asks"]) for book in final}
    assert got == wanted
    (feed,) = feeds_in(str(data))
    db, _ = connect(str(data), feed)
    assert db.cursor().execute("SELECT count(*) FROM mbo").fetchone()[0] == RECORDS
    db.close()
