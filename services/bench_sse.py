"""`mbo bench sse`: fan-out of one gateway process to many streams, against the budgets of the design.

A broker, a feed made here (entries as a book worker commits them), one gateway process and one load client process.
The load client is not the bottleneck if its own CPU stays below one core: it is printed as `client_cpu_percent`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.broker import Broker
from shared.embedded import EmbeddedBroker
from shared.orderbook.shard import ShardState
from shared.records import MBO, Rows
from shared.units import F_LAST, MBO_BYTES, PX_SCALE, RTYPE_MBO
from shared.wire.codec import InEntry, encode_control, encode_out, encode_records

FEED = "bench.feed"
SYMBOL = "BENCH"
TICK_PX = PX_SCALE // 100
MID_TICKS = 10_000
SEEDS = 40
SEED_ORDER = 10**12
START_S = 30.0
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
    parser.add_argument("--json", action="store_true", help="one JSON object (a list for --scenario all)")


def run(args: argparse.Namespace) -> int:
    names = list(SCENARIOS) if args.scenario == "all" else [args.scenario]
    cpus = sorted(os.sched_getaffinity(0)) if args.pin else []
    found = []
    for name in names:
        scenario = dict(SCENARIOS[name])
        scenario.update({k: v for k, v in (("clients", args.clients), ("rate", args.rate)) if v is not None})
        runs = sorted(
            (measure(scenario, args.seconds, args.gateway.split(), cpus) for _ in range(args.runs)),
            key=lambda run: run["latency_ms"]["p99"],
        )
        spread = [round(run["latency_ms"]["p99"], 1) for run in runs]
        result = {"scenario": name, **runs[len(runs) // 2], "p99_ms_of_runs": spread}
        found.append(result)
        if not args.json:
            latency = result["latency_ms"]
            print(
                f"{name:10} {result['clients']} clients  {result['events_per_s']:,.0f} events/s  "
                f"{result['records_per_s']:,.0f} records/s  "
                f"p50 {latency['p50']:.1f} p99 {latency['p99']:.1f} ms {result['p99_ms_of_runs']}  "
                f"{result['kb_per_client']:.1f} KB a client, {result['clients_mb']:.0f} MB  "
                f"connect {result['storm_s']:.2f} s  gateway {result['cpu_percent']:.0f} % CPU, load client "
                f"{result['client_cpu_percent']:.0f} %   budget: {scenario['budget']}"
            )
    if args.json:
        print(json.dumps(found if args.scenario == "all" else found[0]))
    return 0


class Producer:
    """A session of one instrument, appended at a fixed rate from a thread: `:in`, and `:out` as an engine makes it."""

    def __init__(self, url: str, batch: int) -> None:
        self.broker = Broker(url, name="bench")
        self.state = ShardState("uncross")
        self.ordinal = 0
        self._order = 1
        self._batch = batch
        self._rng = np.random.default_rng(1)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        keys = self.broker.keys
        meta = {
            "shards": 1,
            "policy": "uncross",
            "dataset": "BENCH",
            "session": 1,
            "state": "open",
            "readers": "",
        }
        self.broker.call("HSET", keys.feed(FEED, "meta"), *[part for pair in meta.items() for part in pair])
        self.broker.call(
            "HSET", keys.feed(FEED, "instruments"), 1, json.dumps({"symbol": SYMBOL, "publishers": [1]})
        )
        self.broker.call("SADD", keys.feeds, FEED)
        self.control({"type": "begin", "session": 1, "policy": "uncross", "dataset": "BENCH", "ts": 0})
        self.control({"type": "mapping", "instrument_id": 1, "symbol": SYMBOL})
        self.send(self.seed())

    def rows(self, count: int) -> Rows:
        """Adds near the touch, each cancelled some records later: a book that stays small."""
        out = np.zeros(count, MBO)
        out["length"], out["rtype"], out["publisher_id"], out["instrument_id"] = (
            MBO_BYTES // 4,
            RTYPE_MBO,
            1,
            1,
        )
        out["ts_event"] = out["ts_recv"] = time.time_ns()
        out["flags"], out["size"] = F_LAST, self._rng.integers(1, 50, count)
        if count == 1:  # a resting order changes its size: every entry changes the top of the book
            out["order_id"], out["side"], out["action"] = SEED_ORDER, ord("B"), ord("M")
            out["price"] = MID_TICKS * TICK_PX
            out["size"] = 1 + self._order % 1000
            self._order += 1
            return out
        half = np.arange(count) >= (count + 1) // 2  # the second half cancels the first
        ids = self._order + np.arange(count) - np.where(half, (count + 1) // 2, 0)
        out["order_id"] = ids
        out["side"] = np.where(ids % 2, ord("B"), ord("A"))
        out["price"] = (MID_TICKS + np.where(ids % 2, -1, 1) * (1 + ids % 7)) * TICK_PX
        out["action"] = np.where(half, ord("C"), ord("A"))
        out["size"][half] = out["size"][: half.sum()]
        self._order += count
        return out

    def seed(self) -> Rows:
        """Orders that stay: a few levels a side."""
        out = self.rows(SEEDS)
        out["action"], out["order_id"] = ord("A"), SEED_ORDER + np.arange(SEEDS)
        return out

    def control(self, control: dict[str, Any]) -> None:
        self.ordinal += 1
        now = time.time_ns()
        self._write(
            encode_control(control, self.ordinal, now, now, 0),
            InEntry(1, self.ordinal, now, now, 0, None, control),
        )

    def send(self, rows: Rows) -> None:
        now = time.time_ns()
        first, self.ordinal = self.ordinal + 1, self.ordinal + len(rows)
        self._write(
            encode_records(rows, first, now, now, 0), InEntry(len(rows), first, now, now, 0, rows, None)
        )

    def _write(self, blob: bytes, entry: InEntry) -> None:
        batch = self.state.apply(entry)
        out = encode_out(
            batch, n=entry.n, first=entry.first, ts_due=entry.ts_due, ts_ingest=entry.ts_ingest, ts_book=time.time_ns(),
            stale=False, control=entry.control,
        )  # fmt: skip
        keys, offset = self.broker.keys, f"1-{entry.last}"
        self.broker.transact([
            ("XADD", keys.shard(FEED, 0, "in"), "MAXLEN", "~", 20_000, offset, "d", blob),
            ("XADD", keys.shard(FEED, 0, "out"), "MAXLEN", "~", 20_000, offset, "d", out),
        ])  # fmt: skip

    def start(self, rate: float) -> None:
        def work() -> None:
            due = time.monotonic()
            while not self._stop.is_set():
                due += 1 / rate
                self.send(self.rows(self._batch))
                self._stop.wait(max(0.0, due - time.monotonic()))

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        self.broker.close()


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
        gateway = _Gateway(server.url, options)
        try:
            if len(cpus) > 1:
                assert server.process is not None
                pin(gateway.process.pid, cpus[:1])
                pin(server.process.pid, cpus[1:])
                pin(os.getpid(), cpus[1:])  # the producer's threads, and the load client, which inherits it
            return {**_measure(scenario, seconds, producer, gateway), "pinned": len(cpus) > 1}
        finally:
            gateway.close()
            producer.close()
            server.stop()


def pin(pid: int, cpus: Sequence[int]) -> None:
    """Every thread of a process to these CPUs."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(task.name), cpus)


class _Gateway:
    """One gateway process."""

    def __init__(self, url: str, options: Sequence[str]) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MBO_")}
        command = [
            sys.executable,
            "-m",
            "services.gateway",
            "--broker",
            url,
            "--port",
            "0",
            "--log",
            "json",
            "--drain-spread-s",
            "0",
            *options,
        ]
        self.process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.port = self.admin = ""
        for line in self.process.stderr:
            row = json.loads(line) if line.startswith("{") else {}
            self.admin = row.get("admin", self.admin)
            if row.get("event") == "serving":
                self.port = row["address"].rsplit(":", 1)[1]
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        deadline = time.monotonic() + START_S
        while not self._ready():
            if time.monotonic() > deadline:
                raise RuntimeError("the gateway did not become ready")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.admin}/readyz", timeout=2) as answer:  # noqa: S310 - our own admin port
                return bool(json.load(answer)["data_age_ms"] is not None)
        except OSError:
            return False

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kb(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _measure(
    scenario: dict[str, Any], seconds: float, producer: Producer, gateway: _Gateway
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
    before = gateway.rss_kb()
    load = subprocess.Popen(
        [sys.executable, "-m", "services.bench_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdin.write(json.dumps(job) + "\n")
    load.stdin.flush()
    connected = json.loads(load.stdout.readline())
    rss = gateway.rss_kb()
    if scenario["rate"]:
        producer.start(scenario["rate"])
    time.sleep(WARM_S)
    cpu, wall = gateway.cpu_s(), time.monotonic()
    result = json.loads(load.stdout.readline())
    cpu, wall = gateway.cpu_s() - cpu, time.monotonic() - wall
    load.wait(10)
    return {
        "clients": connected["connected"],
        "events_per_s": result["events"] / result["wall_s"],
        "records_per_s": result["records"] / result["wall_s"],
        "bytes_per_s": result["bytes"] / result["wall_s"],
        "latency_ms": result["latency_ms"],
        "gateway_ms": result[
            "gateway_ms"
        ],  # of it, until the gateway had made the block; the rest is writing and reading
        "kb_per_client": (rss - before) / max(1, scenario["clients"]),
        "clients_mb": (rss - before) / 1024,
        "rss_mb": rss / 1024,
        "cpu_percent": 100 * cpu / wall,
        "client_cpu_percent": result["client_cpu_percent"],
        "storm_s": connected["storm_s"],
        "lost": result["lost"],
    }
