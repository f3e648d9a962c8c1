"""`mbo bench pipeline`: the real services on a real broker, from a record's due time to an SSE client.

A simulated market lies in a file (made once, kept in the cache folder). The services run as `mbo up` runs them, AOF
everysec. Latency counts from the time a record was due, not from when ingest got round to it; CPU is user + system
time of each process over the measured window; the end state is compared with an offline rebuild of the same file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.bench.processes import cpu_s, rss_bytes, until
from services.drain import Drain
from services.launcher import Launcher
from services.up import UpSettings, children, choose_port
from shared import images, logs
from shared.broker import Broker
from shared.dbn import Reader
from shared.embedded import EmbeddedBroker
from shared.errors import MboError, UsageError
from shared.orderbook.engines import make_engine
from shared.scheduling import halves
from shared.wire.keys import parse_id

DRAIN_S = 120.0
SAMPLE_S = 0.05
MAX_RATE_RECORDS = 12_000_000  # of a run at full tilt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", default="max", help="records a second, or max")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time of a run at a rate")
    parser.add_argument("--warm", type=float, default=5.0, help="seconds before the measurement")
    parser.add_argument("--records", type=int, default=MAX_RATE_RECORDS, help="records of a run at max")
    parser.add_argument("--instruments", type=int, default=128)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--books", type=int, default=1)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--pin", action="store_true", help="as `mbo up --pin`")
    parser.add_argument("--runs", type=int, default=1, help="runs; the median is reported, with the spread")
    parser.add_argument("--no-persist", action="store_true", help="without the persister")
    parser.add_argument("--file", type=Path, help="a DBN file instead of the simulated market")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "mbo-bench", help="where markets are kept"
    )
    parser.add_argument(
        "--ingest", default="", help="further options of ingest, for example '--entry-records 4000'"
    )
    parser.add_argument("--book", default="", help="further options of book workers")
    parser.add_argument("--json", action="store_true", help="one JSON object")


@dataclass
class Usage:
    """CPU seconds and resident MB of the processes of a role, added up."""

    cpu_s: float = 0.0
    rss_mb: float = 0.0


def usage(pids: dict[str, list[int]]) -> dict[str, Usage]:
    """By role, now."""
    found: dict[str, Usage] = {}
    for role, numbers in pids.items():
        total = found.setdefault(role, Usage())
        for pid in numbers:
            total.cpu_s += cpu_s(pid)
            total.rss_mb += rss_bytes(pid) / 1e6
    return found


def make_market(cache: Path, instruments: int, records: int) -> Path:
    """A simulated market of this size, made once."""
    path = cache / f"sim-{instruments}x{records}.dbn"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.dbn")
        command = [sys.executable, "-m", "services", "simulate", str(part), "--instruments", str(instruments)]
        subprocess.run([*command, "--messages", str(records)], check=True, stdout=subprocess.DEVNULL)
        part.rename(path)
    return path


class Run:
    """One pipeline from start to stop, in a folder of its own."""

    def __init__(self, args: argparse.Namespace, market: Path, folder: Path) -> None:
        self.args, self.market = args, market
        self.rate = 0.0 if args.rate == "max" else float(args.rate)
        self.port = choose_port("127.0.0.1", 0)
        config = UpSettings(
            source=(str(market),), rate=self.rate, books=args.books, shards=args.shards, policy="raw", data=folder,
            port=self.port, log_level="warning", pin=args.pin,
        )  # fmt: skip
        self.config = config
        self.server = EmbeddedBroker(folder / "broker", max_memory="8gb")
        if args.pin:
            self.server.cpus = halves()[0]
        self.children = children(config, self.server.url, [self.port])
        readers = ["book"] if args.no_persist else ["book", "persist"]
        for child in list(self.children):
            if child.role == "persist" and args.no_persist:
                self.children.remove(child)
            if child.role == "ingest":
                child.argv += ["--readers", *readers, *args.ingest.split()]
            if child.role == "book":
                child.argv += args.book.split()
        self.launcher = Launcher(self.server, self.children)
        self.broker = Broker(self.server.url, name="bench")
        self.readers = readers

    def measure(self) -> dict[str, Any]:
        """Start, warm up, measure, drain, check."""
        self.server.start()
        try:
            ingest = next(child for child in self.children if child.role == "ingest")
            for child in self.children:
                if child is not ingest:
                    child.start()
            until(lambda: self._get("/v1/instruments"), "the gateway did not answer")
            ingest.start()
            shards = until(self._flowing, "no records flowed")
            tap = self._tap()
            warm = self.args.warm if self.rate else 0.5
            time.sleep(warm)
            result = self._window(shards)
            result.update(self._taken(tap))
            if self.rate and self.args.clients and (not result["events"] or result["lost"]):
                raise MboError(
                    f"latency is not measured: {result['events']} events, {result['lost']} streams lost"
                )
            drain = Drain(self.server.url, self.config)
            drain.readers = tuple(self.readers)
            until(drain.is_done, "the pipeline did not drain", timeout_s=DRAIN_S, every_s=0.1)
            result["state_ok"] = self._state_ok()
            return result
        finally:
            self.broker.close()
            self.launcher.stop()

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return json.load(answer)

    def _flowing(self) -> list[tuple[str, int]]:
        """The shards of the feed, once records flow through them."""
        for name in self.broker.call("SMEMBERS", self.broker.keys.feeds):
            shards = [(name.decode(), shard) for shard in range(self.args.shards)]
            if self._done(shards) > 10_000:
                return shards
        return []

    def _done(self, shards: list[tuple[str, int]]) -> int:
        """Ordinals that every required reader has committed, over all shards."""
        keys = self.broker.keys
        rows = self.broker.pipe([("HMGET", keys.shard(f, s, "pos"), *self.readers) for f, s in shards])
        return sum(min(parse_id(offset)[1] if offset else 0 for offset in row) for row in rows)

    def _symbols(self) -> list[str]:
        """Of every instrument the gateway knows, or none as long as these are too few: it hears of them a moment after
        the first records."""
        names = [row["symbol"] for row in self._get("/v1/instruments?limit=1000")["instruments"]]
        return names if len(names) >= min(self.args.clients, self.args.instruments) else []

    def _tap(self) -> subprocess.Popen[str]:
        names = until(self._symbols, "the gateway knows no instruments")
        chosen = names[:: max(len(names) // max(self.args.clients, 1), 1)][: self.args.clients]
        paths = [f"/v1/stream?symbols={name}&channels=bbo,book,trades&depth=10" for name in chosen]
        process = subprocess.Popen(
            [sys.executable, "-m", "services.bench.tap"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(
            json.dumps({"port": self.port, "paths": paths, "warm_s": self.args.warm if self.rate else 0.5})
            + "\n"
        )
        process.stdin.flush()
        process.stdout.readline()
        return process

    def _window(self, shards: list[tuple[str, int]]) -> dict[str, Any]:
        pids = {
            role: [c.process.pid for c in self.children if c.role == role and c.process]
            for role in ("ingest", "book", "gateway", "persist")
        }
        assert self.server.process is not None
        pids["broker"] = [self.server.process.pid]
        total = self._total()
        before, start, first = usage(pids), time.monotonic(), self._done(shards)
        while True:
            time.sleep(SAMPLE_S)
            done, now = self._done(shards), time.monotonic()
            if (self.rate and now - start >= self.args.seconds) or done >= total * 0.97:
                break
        after = usage(pids)
        if done == first:
            raise MboError(
                f"all {total:,} records were taken before the measurement began: give more --records"
            )
        million = (done - first) / 1e6
        cpu = {role: (after[role].cpu_s - before[role].cpu_s) / million for role in after if pids[role]}
        return {
            "records": done - first,
            "seconds": now - start,
            "records_per_s": (done - first) / (now - start),
            "cpu_s_per_million": {"total": sum(cpu.values()), **cpu},
            "rss_mb": {role: after[role].rss_mb for role in after if pids[role]},
        }

    def _total(self) -> int:
        with Reader(self.market) as reader:
            return reader.records_at_most or 0

    def _taken(self, tap: subprocess.Popen[str]) -> dict[str, Any]:
        out, _ = tap.communicate("stop\n", timeout=60)
        return dict(json.loads(out.strip().splitlines()[-1]))

    def _state_ok(self) -> bool:
        """The books of the last images against one engine over the whole file."""
        engine = make_engine("raw")
        ordinal = 1
        with Reader(self.market) as reader:
            for part in reader.parts():
                if part.records is not None:
                    engine.apply(part.records, ordinal)
                    ordinal += len(part.records)
        engine.end()
        want = {key: engine.view(*key) for key in engine.books()}
        got = {}
        for name in self.broker.call("SMEMBERS", self.broker.keys.feeds):
            for shard in range(self.args.shards):
                state = images.load(self.broker, images.pointers(self.broker, name.decode(), shard)[0])
                got.update({key: state.engine.view(*key) for key in state.engine.books()})
        return got == want


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median rate (or, at a fixed rate, the median p99), and the spread over all."""
    key = (
        (lambda r: r["latency_ms"]["end_to_end"]["p99"])
        if results[0]["paced"]
        else (lambda r: r["records_per_s"])
    )
    middle = sorted(results, key=key)[len(results) // 2]
    return {
        **middle, "runs": len(results), "state_ok": all(r["state_ok"] for r in results),
        "spread": {
            "records_per_s": [round(r["records_per_s"]) for r in results],
            "p50_ms": [r["latency_ms"]["end_to_end"]["p50"] for r in results],
            "p99_ms": [r["latency_ms"]["end_to_end"]["p99"] for r in results],
            "cpu_s_per_million": [round(r["cpu_s_per_million"]["total"], 3) for r in results],
            "cpu_s_per_million_median": round(statistics.median(r["cpu_s_per_million"]["total"] for r in results), 3),
        },
    }  # fmt: skip


def run(args: argparse.Namespace) -> int:
    logs.setup("auto", "warning", service="bench")
    if args.rate != "max" and float(args.rate) <= 0:
        raise UsageError("--rate: records a second, or max")
    paced = args.rate != "max"
    records = round(float(args.rate) * (args.seconds + args.warm + 8)) if paced else args.records
    market = args.file or make_market(args.cache, args.instruments, records)
    results = []
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory(prefix="mbo-bench-") as folder:
            results.append({**Run(args, market, Path(folder)).measure(), "paced": paced})
        if not args.json:
            _show(results[-1])
    found = summary(results)
    print(json.dumps(found)) if args.json else _show(found)
    return 0 if found["state_ok"] else 1


def _show(result: dict[str, Any]) -> None:
    cpu = result["cpu_s_per_million"]
    print(f"{result['records_per_s']:,.0f} records/s   CPU-s per million {cpu['total']:.3f} ("
          + ", ".join(f"{k} {v:.3f}" for k, v in cpu.items() if k != "total") + ")   state "
          + ("ok" if result["state_ok"] else "WRONG"))  # fmt: skip
    for stage, values in result["latency_ms"].items():
        if values["p50"] is not None:
            print(
                f"  {stage:<11}"
                + "".join(f"{name:>7} {value:>8.2f}" for name, value in values.items())
                + " ms"
            )
    if result["lost"]:
        print(
            f"  {result['lost']} streams were slower than full tilt: bye: slow, to resume from the recording"
        )
    print("  RSS MB: " + ", ".join(f"{k} {v:.0f}" for k, v in result["rss_mb"].items()))
