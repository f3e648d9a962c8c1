"""Many replays beside the live market: all whole, and live goes on."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import connect_sse

from tests.support import eventually
from tests.support.pipeline import Pipeline

INSTRUMENTS = 4
REPLAYS = 8
LATE_S = 2.0  # of a live event at most, on a machine that does other things too
TIMEOUT = httpx.Timeout(60, connect=5)


def replay(address: str, symbols: str, end: int) -> list[Any]:
    """The trades of these instruments up to `end`, at full speed."""
    query = {
        "symbols": symbols,
        "channels": "trades",
        "start": "0",
        "end": str(end),
        "speed": "max",
    }
    seen: list[Any] = []
    with (
        httpx.Client(timeout=TIMEOUT) as client,
        connect_sse(client, "GET", f"{address}/v1/replay", params=query) as it,
    ):
        for event in it.iter_sse():
            if event.event == "trade":
                body = json.loads(event.data)
                seen.append((body["view"], body["end"], body["ordinal"], body["price"], body["size"]))
            elif event.event == "bye":
                assert json.loads(event.data)["reason"] == "replayed"
                return sorted(seen)
    raise AssertionError("a replay ended without a bye")


class Live(threading.Thread):
    """How late trades reach a live client, by the time ingest was due to take them."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.late_s: list[float] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        query = {"symbols": "ALL_SYMBOLS", "channels": "book", "depth": "5"}
        with (
            httpx.Client(timeout=TIMEOUT) as client,
            connect_sse(client, "GET", f"{self.address}/v1/stream", params=query) as it,
        ):
            for event in it.iter_sse():
                if event.event == "delta":
                    self.late_s.append(time.time() - int(json.loads(event.data)["stamps"][0]) / 1e9)
                if self.is_over.is_set():
                    return


def test_many_replays_at_once_are_whole_and_do_not_disturb_live(tmp_path: Path) -> None:
    sim = ("--source", "sim", "--speed", "1", "--instruments", str(INSTRUMENTS), "--shards", "2")
    env = {"MBO_RECALLS_PER_CLIENT": str(REPLAYS), "MBO_RECALLS": str(REPLAYS)}
    with Pipeline(tmp_path / "data", *sim, env=env) as pipeline:
        address = pipeline.address()

        def recorded() -> list[dict[str, Any]]:
            """All instruments, once what follows the opening auction (after 5 s) is recorded too."""
            rows = httpx.get(f"{address}/v1/instruments", timeout=5).json()["instruments"]
            is_some = all(row["last"] and int(row["last"]) - int(row["first"]) > 10e9 for row in rows)
            return rows if is_some and len(rows) == INSTRUMENTS else []

        rows = eventually(recorded, timeout_s=90)
        symbols = ",".join(row["symbol"] for row in rows)
        end = min(int(row["last"]) for row in rows) - 2_000_000_000
        live = Live(address)
        live.start()
        eventually(lambda: len(live.late_s) > 50, timeout_s=60)
        del live.late_s[:]
        with ThreadPoolExecutor(REPLAYS) as pool:
            seen = list(pool.map(lambda _: replay(address, symbols, end), range(REPLAYS)))
        live.is_over.set()
        assert len(live.late_s) > 20, "live went on meanwhile"
        assert max(live.late_s) < LATE_S
        assert len(seen[0]) > 10
        assert all(one == seen[0] for one in seen)
        assert pipeline.stop() == 0
        assert "Traceback" not in pipeline.log
