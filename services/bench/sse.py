"""`mbo bench sse`: fan-out of one gateway process to many streams, against the budgets of the design.

A broker, a feed made here (entries as a book worker commits them), one gateway process and one load client process.
The load client is not the bottleneck if its own CPU stays below one core: it is printed as `client_cpu_percent`.
Where sse-starlette is installed (`pip install sse-starlette`), it serves the same clients in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from services.bench import sse_rival
from services.bench.processes import Gateway, cpu_s, pin, rss_bytes
from services.bench.producer import SYMBOL, Producer
from services.bench.sse_rival import Rival
from shared.embedded import EmbeddedBroker

WARM_S = 1.5

SCENARIOS: dict[str, dict[str, Any]] = {
    "fanout": {
        "clients": 1000,
        "rate": 100,
        "batch": 1,
        "query": "channels=book&depth=5",
        "budget": "p99 < 15 ms at 100 k events/s",
    },
    "mbo": {
        "clients": 130,
        "rate": 140,
        "batch": 1000,
        "query": "channels=mbo&encoding=columns&compress=1",
        "budget": "17 M records/s",
    },
    "mbo-plain": {
        "clients": 130,
        "rate": 65,
        "batch": 1000,
        "query": "channels=mbo&encoding=columns",
        "budget": "8 M records/s",
    },
    "idle": {
        "clients": 5000,
        "rate": 0,
        "batch": 1,
        "query": "channels=bbo",
        "budget": "< 100 MB, < 12 KB a client",
    },
    "storm": {"clients": 1000, "rate": 0, "batch": 1, "query": "channels=book", "budget": "< 1 s"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", choices=(*SCENARIOS, "all"), default="fanout")
    parser.add_argument("--clients", type=int, help="streams (default by scenario)")
    parser.add_argument("--rate", type=int, help="entries a second (default by scenario)")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured time")
    parser.add_argument(
        "--runs", type=int, default=1, help="runs; that with the median p99 is reported, with all p99"
    )
    parser.add_argument(
        "--gateway",
        default="",
        help="further options of the gateway, for example '--client-budget-bytes 32768'",
    )
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the gateway has one CPU for itself, everything else the others",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, a list of several")


def run(args: argparse.Namespace) -> int:
    names = list(SCENARIOS) if args.scenario == "all" else [args.scenario]
    cpus = sorted(os.sched_getaffinity(0)) if args.pin else []
    found = []
    options = args.gateway.split()
    for name in names:
        scenario = dict(SCENARIOS[name])
        scenario.update({k: v for k, v in (("clients", args.clients), ("rate", args.rate)) if v is not None})
        sides = {name: partial(measure, scenario, args.seconds, options, cpus)}
        if name == "fanout" and sse_rival.is_installed():
            sides[f"{name}, {sse_rival.NAME}"] = partial(measure_rival, scenario, args.seconds, cpus)
        for side, once in sides.items():
            found.append(_median(side, scenario, [once() for _ in range(args.runs)], quiet=args.json))
    if args.json:
        print(json.dumps(found if len(found) > 1 else found[0]))
    return 0


def _median(
    name: str, scenario: dict[str, Any], runs: list[dict[str, Any]], *, quiet: bool
) -> dict[str, Any]:
    """The run with the median p99, and the p99 of all."""
    runs = sorted(runs, key=lambda run: run["latency_ms"]["p99"])
    spread = [round(run["latency_ms"]["p99"], 1) for run in runs]
    result = {"scenario": name, **runs[len(runs) // 2], "p99_ms_of_runs": spread}
    if not quiet:
        latency = result["latency_ms"]
        print(
            f"{name:10} {result['clients']} clients  {result['events_per_s']:,.0f} events/s  "
            f"{result['records_per_s']:,.0f} records/s  "
            f"p50 {latency['p50']:.1f} p99 {latency['p99']:.1f} ms {result['p99_ms_of_runs']}  "
            f"{result['kb_per_client']:.1f} KB a client, {result['clients_mb']:.0f} MB  "
            f"connect {result['storm_s']:.2f} s  gateway {result['cpu_percent']:.0f} % CPU, load client "
            f"{result['client_cpu_percent']:.0f} %   budget: {scenario['budget']}"
        )
    return result


def measure(
    scenario: dict[str, Any], seconds: float, options: Sequence[str] = (), cpus: Sequence[int] = ()
) -> dict[str, Any]:
    """Run one scenario in processes of its own; of two or more `cpus` the gateway has the first for itself.

    Left to itself the scheduler likes to run who is woken on the CPU of who wakes: the load client beside the gateway.
    """
    with tempfile.TemporaryDirectory(prefix="mbo-bench-") as folder:
        server = EmbeddedBroker(Path(folder) / "broker")
        server.start()
        producer = Producer(server.url, scenario["batch"])
        gateway = Gateway(server.url, options)
        try:
            if len(cpus) > 1:
                assert server.process is not None
                pin(gateway.process.pid, cpus[:1])
                pin(server.process.pid, cpus[1:])
                pin(os.getpid(), cpus[1:])  # the producer's threads, and the load client, which inherits it
            found = _measure(scenario, seconds, gateway, producer.start)
            return {**found, "pinned": len(cpus) > 1}
        finally:
            gateway.close()
            producer.close()
            server.stop()


def measure_rival(scenario: dict[str, Any], seconds: float, cpus: Sequence[int] = ()) -> dict[str, Any]:
    """The same clients and rate on sse-starlette, which needs no broker."""
    rival = Rival(scenario["rate"])
    try:
        if len(cpus) > 1:
            pin(rival.process.pid, cpus[:1])
            pin(os.getpid(), cpus[1:])
        return {**_measure(scenario, seconds, rival, lambda rate: None), "pinned": len(cpus) > 1}
    finally:
        rival.close()


def _measure(
    scenario: dict[str, Any], seconds: float, gateway: Gateway | Rival, start: Callable[[float], None]
) -> dict[str, Any]:
    job = {
        "port": int(gateway.port),
        "path": f"/v1/stream?symbols={SYMBOL}&{scenario['query']}",
        "clients": scenario["clients"],
        "compressed": "compress=1" in scenario["query"],
        "seconds": seconds,
        "warm_s": WARM_S,
        "sample": max(1, scenario["clients"] // 100),
    }
    before = rss_bytes(gateway.process.pid)
    load = subprocess.Popen(
        [sys.executable, "-m", "services.bench.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdin.write(json.dumps(job) + "\n")
    load.stdin.flush()
    connected = json.loads(load.stdout.readline())
    rss = rss_bytes(gateway.process.pid)
    if scenario["rate"]:
        start(scenario["rate"])
    time.sleep(WARM_S)
    cpu, wall = cpu_s(gateway.process.pid), time.monotonic()
    result = json.loads(load.stdout.readline())
    cpu, wall = cpu_s(gateway.process.pid) - cpu, time.monotonic() - wall
    load.wait(10)
    return {
        "clients": connected["connected"],
        "events_per_s": result["events"] / result["wall_s"],
        "records_per_s": result["records"] / result["wall_s"],
        "bytes_per_s": result["bytes"] / result["wall_s"],
        "latency_ms": result["latency_ms"],
        "gateway_ms": result["gateway_ms"],  # of it, until the gateway had made the block
        "kb_per_client": (rss - before) / 1024 / max(1, scenario["clients"]),
        "clients_mb": (rss - before) / 2**20,
        "rss_mb": rss / 2**20,
        "cpu_percent": 100 * cpu / wall,
        "client_cpu_percent": result["client_cpu_percent"],
        "storm_s": connected["storm_s"],
        "lost": result["lost"],
    }
