"""`python -m tests.benchmarks.soak [--minutes M] [--rate R]`: the pipeline at one rate for a long time.

A simulated market is replayed from a file again and again; each minute a line says what memory every process holds and
how far the stages are behind. Memory must not grow over the second half (the slope of a line, less twice its error), no
lag may grow, and every record must be there: the exit status says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from services.bench.pipeline import make_market
from services.bench.processes import rss_bytes
from tests.support.pipeline import Pipeline

RECORDS = 12_000_000  # of the market in the file
EVERY_S = 20.0
GROWS_MB_PER_HOUR = 20.0  # more than that is said to grow
LAG_RECORDS = 2.0  # seconds of the rate that a stage may be behind


def sample(address: str) -> dict[str, Any]:
    """Ordinals, lags and the resident MB of each role, now."""
    seen = httpx.get(f"{address}/v1/pipeline", timeout=10).raise_for_status().json()
    (feed,) = seen["feeds"]
    memory: dict[str, float] = {"broker": seen["memory"]["used_bytes"] / 1e6}
    for process in seen["processes"]:
        if process["alive"]:
            memory[process["role"]] = memory.get(process["role"], 0.0) + rss_bytes(process["pid"]) / 1e6
    lags = {name: sum(shard["readers"][name]["lag"] for shard in feed["shards"]) for name in feed["readers"]}
    return {"records": sum(shard["in"] for shard in feed["shards"]), "lag": lags, "mb": memory}


def slope(minutes: list[float], values: list[float]) -> tuple[float, float]:
    """(MB an hour, its standard error) of a line through the values."""
    hours = np.array(minutes) / 60
    (a, _), covariance = np.polyfit(hours, values, 1, cov=True)
    return float(a), float(np.sqrt(covariance[0][0]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=500_000, help="records a second")
    parser.add_argument(
        "--keep-gb", type=float, default=4.0, help="of the recording: retention is at work too"
    )
    args = parser.parse_args()
    market = make_market(Path(tempfile.gettempdir()) / "mbo-bench", 128, RECORDS)
    samples: list[tuple[float, dict[str, Any]]] = []
    with (
        tempfile.TemporaryDirectory(prefix="mbo-soak-") as folder,
        Pipeline(
            Path(folder) / "data", "--source", str(market), "--loop", "--rate", str(args.rate), "--shards", "1",
            "--pin", "--policy", "raw", env={"MBO_KEEP_GB": str(args.keep_gb), "MBO_LOG_LEVEL": "warning"},
        ) as pipeline,
    ):  # fmt: skip
        address = pipeline.address()
        began = time.monotonic()
        while (minute := (time.monotonic() - began) / 60) < args.minutes:
            time.sleep(EVERY_S)
            seen = sample(address)
            samples.append((minute, seen))
            said = ", ".join(f"{role} {mb:.0f}" for role, mb in seen["mb"].items())
            print(
                f"{minute:6.1f} min  {seen['records']:,} records  lag {seen['lag']}  MB: {said}", flush=True
            )
        tracebacks = pipeline.log.count("Traceback")
    later = [each for each in samples if each[0] >= args.minutes / 2]
    minutes = [minute for minute, _ in later]
    growth = {role: slope(minutes, [seen["mb"][role] for _, seen in later]) for role in later[0][1]["mb"]}
    behind = {name: max(seen["lag"][name] for _, seen in later) for name in later[0][1]["lag"]}
    rate = (later[-1][1]["records"] - later[0][1]["records"]) / (minutes[-1] - minutes[0]) / 60
    grows = [role for role, (mb, error) in growth.items() if mb - 2 * error > GROWS_MB_PER_HOUR]
    late = [name for name, lag in behind.items() if lag > LAG_RECORDS * args.rate]
    print(json.dumps({
        "records": later[-1][1]["records"], "records_per_s": round(rate), "most_lag_records": behind,
        "mb": {role: round(mb) for role, mb in later[-1][1]["mb"].items()},
        "mb_per_hour": {role: f"{mb:.1f} ± {2 * error:.1f}" for role, (mb, error) in growth.items()},
        "tracebacks": tracebacks, "grows": grows, "late": late,
    }))  # fmt: skip
    return bool(grows or late or tracebacks or rate < 0.98 * args.rate)


if __name__ == "__main__":
    sys.exit(main())
