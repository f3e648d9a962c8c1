"""`python -m tests.chaos [--minutes N] [--seed S]`: random faults on a running pipeline, then compare everything.

A simulated market of many instruments flows at a rate through `mbo up` with two workers and two gateways. At random
times a random fault strikes (tests/chaos/faults.py). At the end, against the file: the final books of an offline
rebuild, every stored record byte for byte, a reader's fold of `:out`, and what SSE clients that reconnected hold.
`--broker pair` runs on a primary with a lagging replica behind one address, through a network that is cut;
`--broker cluster` on three nodes and a replica, each behind a network of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from services.ingest.router import split
from services.persist.sql import connect
from services.persist.store import feeds_in
from shared.client import Client
from shared.dbn import Reader
from shared.orderbook.engine import Policy
from shared.orderbook.engines import make_engine
from shared.orderbook.lines import final_lines
from shared.records import MBO, Rows
from shared.units import UNDEF_PX, UNDEF_TS, px_to_str
from shared.wire.keys import parse_id
from tests.chaos.brokers import Broker, Clustered, Embedded, Replicated
from tests.chaos.faults import Faults
from tests.chaos.follower import Follower
from tests.chaos.takeover import Watch, summary
from tests.support import eventually
from tests.support.cluster import Cluster
from tests.support.pipeline import Pipeline
from tests.support.proxy import Proxy
from tests.support.replica import Pair

SHARDS = 4
FINISH_S = 150.0
NEVER_ENDED = -1  # status of a pipeline that did not drain in that time
ZERO = (
    "status", "missing", "duplicated", "reordered", "wrong_final_books", "out_gaps", "wrong_folded_books", "tracebacks",
)  # fmt: skip


class SseClient(threading.Thread):
    """Follows books through every gateway restart until the pipeline says goodbye."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.client = Client(address, symbols="ALL_SYMBOLS", channels="book", depth="all")
        self.last = ""

    def run(self) -> None:
        while self.last != "ended":
            try:
                for event in self.client:
                    if event.name == "bye":
                        self.last = str(event.data["reason"])
            except Exception as error:  # noqa: BLE001 - a client of a dying gateway sees anything; it goes on
                self.last = repr(error)
                time.sleep(0.2)

    def books(self) -> dict[str, list[list[list[Any]]]]:
        return {
            str(book.state["symbol"]): [[list(row) for row in side] for side in (book.bids, book.asks)]
            for book in self.client.books.values()
        }


def make_market(path: Path, instruments: int, messages: int, seed: int) -> None:
    command = [sys.executable, "-m", "services", "simulate", str(path), "--instruments", str(instruments)]
    subprocess.run(
        [*command, "--messages", str(messages), "--seed", str(seed)], check=True, capture_output=True
    )


def source_records(path: Path) -> Rows:
    with Reader(path) as reader:
        parts = [part.records for part in reader.parts() if part.records is not None]
    return np.concatenate(parts)


def _value(name: str, value: object) -> int:
    """A column of `mbo sql` back as DBN has it: text actions, NULL for undefined."""
    if value is None:
        return UNDEF_PX if name == "price" else UNDEF_TS
    return ord(str(value)) if name in ("action", "side") else int(str(value))


def stored_by_shard(data: Path) -> dict[int, bytes]:
    """Every stored record's bytes, in ordinal order, by shard."""
    found: dict[int, bytes] = {}
    for feed in feeds_in(str(data)):
        db, _ = connect(str(data), feed)
        for shard in range(SHARDS):
            rows = db.cursor().execute(
                "SELECT publisher_id, instrument_id, ts_event, order_id, price_px, size, flags, channel_id, action,"
                " side, ts_recv, ts_in_delta, sequence FROM mbo WHERE shard=? ORDER BY ordinal", (shard,)
            ).fetchall()  # fmt: skip
            out = np.zeros(len(rows), MBO)
            out["length"], out["rtype"] = 14, 160
            names = ("publisher_id", "instrument_id", "ts_event", "order_id", "price", "size", "flags", "channel_id",
                     "action", "side", "ts_recv", "ts_in_delta", "sequence")  # fmt: skip
            for name, column in zip(names, zip(*rows, strict=True), strict=False):
                out[name] = [_value(name, value) for value in column]
            found[shard] = out.tobytes()
        db.close()
    return found


def offline_books(path: Path, records: Rows, policy: Policy) -> list[str]:
    """The truth: one engine over the whole file, without a pipeline."""
    with Reader(path) as reader:
        symbols = {row.instrument_id: row.symbol for row in reader.metadata.instruments()}
    engine = make_engine(policy)
    engine.apply(records, 1)
    engine.end()
    return sorted(final_lines(engine, symbols))


def run(args: argparse.Namespace, seed: int, work: Path) -> dict[str, Any]:
    rng = random.Random(seed)
    market, data = work / "market.dbn", work / "data"
    make_market(market, args.instruments, round(args.rate * args.minutes * 60), seed)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        command = ["--source", str(market), "--rate", str(args.rate), "--policy", args.policy, "--drain"]
        command += ["--books", "2", "--gateways", "2"]
        broker: Broker | None = None
        if args.broker == "pair":
            broker = Replicated(stack.enter_context(Pair(work / "pair")), rng)
        elif args.broker == "cluster":
            broker = Clustered(stack.enter_context(Cluster(work / "cluster", spare=True)), rng)
        if broker:
            command += ["--broker", broker.url]
        pipeline = stack.enter_context(Pipeline(data, *command))
        address, launcher = pipeline.address(), pipeline.process.pid
        if broker is None:
            proxy = Proxy(data / "broker" / "broker.sock", listen=work / "proxy.sock")
            stack.callback(proxy.close)
            broker = Embedded(launcher, data, proxy, rng)
        watch, follower = Watch(broker.url, every_s=0.02), Follower(broker.url)
        clients = [SseClient(address), SseClient(address)]
        faults = Faults(launcher, broker, watch, rng, work / "extra-workers.log")
        try:
            eventually(
                lambda: (data / "store").exists() and any((data / "store").glob("*.sqlite")), timeout_s=60
            )
            for thread in (watch, follower, *clients):
                thread.start()
            end = time.monotonic() + args.minutes * 60
            while time.monotonic() < end and pipeline.process.poll() is None:
                faults.inject()
                time.sleep(rng.uniform(0.1, 2 * args.pause - 0.1))
            committed = sum(parse_id(shard.offset)[1] for shard in watch.shards().values() if shard.offset)
        finally:
            faults.end()
        try:
            status = pipeline.wait(FINISH_S + args.minutes * 60)  # faults hold the source back by as much
        except subprocess.TimeoutExpired:
            status = NEVER_ENDED
        follower._stop_asked.set()
        watch.stop()
    for client in clients:
        client.join(5)
    counts = dict(sorted(faults.counts.items()))
    found = {
        "status": status, "seconds": round(time.monotonic() - started), "faults": sum(counts.values()),
        "kinds": counts, "ordinals_committed_amid_faults": committed, "takeover_of_a_shard": summary(watch.times),
    }  # fmt: skip
    found |= compare(market, data, follower, clients, args.policy)
    return {**found, "tracebacks": pipeline.log.count("Traceback")}


def consolidated(lines: list[dict[str, Any]]) -> dict[str, list[list[list[Any]]]]:
    """What a client without `publisher=` sees: sizes and counts of a symbol's books added by price, best first."""
    sides: dict[str, list[dict[int, list[int]]]] = {}
    for line in lines:
        for side, rows in zip(
            sides.setdefault(line["symbol"], [{}, {}]), (line["bids"], line["asks"]), strict=True
        ):
            for px, size, count in rows:
                level = side.setdefault(px, [0, 0])
                level[0] += size
                level[1] += count
    return {
        symbol: [
            [[px_to_str(px), *row] for px, row in sorted(side.items(), reverse=down)]
            for side, down in ((bids, True), (asks, False))
        ]
        for symbol, (bids, asks) in sides.items()
    }


def compare(
    market: Path, data: Path, follower: Follower, clients: list[SseClient], policy: Policy
) -> dict[str, Any]:
    """Counts of everything that is not as the source says; all must be 0."""
    sent = source_records(market)
    stored = stored_by_shard(data)
    missing = doubled = reordered = 0
    for shard, records in enumerate(split(sent, SHARDS)):
        want, got = records.tobytes(), stored.get(shard, b"")
        difference = (len(want) - len(got)) // MBO.itemsize
        missing, doubled = missing + max(difference, 0), doubled + max(-difference, 0)
        reordered += difference == 0 and want != got
    truth = offline_books(market, sent, policy)
    books = data / "final-books.jsonl"
    final = books.read_text(encoding="utf-8").splitlines() if books.exists() else []
    lines = [json.loads(line) for line in truth]
    shown = consolidated(lines)
    wrong_clients = [
        sum(client.books().get(symbol) != book for symbol, book in shown.items()) for client in clients
    ]
    folded = 0
    for line in lines:
        bids, asks = follower.books.get((line["publisher_id"], line["instrument_id"]), ({}, {}))
        levels = [
            [[px, *row] for px, row in sorted(side.items(), reverse=down)]
            for side, down in ((bids, True), (asks, False))
        ]
        folded += levels != [line["bids"], line["asks"]]
    return {
        "records": len(sent), "missing": missing, "duplicated": doubled, "reordered": int(reordered),
        "wrong_final_books": len(set(truth) ^ set(final)), "out_gaps": len(follower.gaps),
        "wrong_folded_books": folded, "wrong_client_books": wrong_clients, "books": len(truth),
        "client_connects": [client.client.connects for client in clients], "overlaps_seen": follower.overlaps,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rate", type=int, default=4000, help="records a second")
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--policy", choices=("raw", "execute"), default="raw")
    parser.add_argument("--broker", choices=("embedded", "pair", "cluster"), default="embedded")
    parser.add_argument("--pause", type=float, default=0.6, help="mean seconds between two faults, above 0.1")
    parser.add_argument("--keep", action="store_true", help="keep the working folder")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    work = Path(tempfile.mkdtemp(prefix="mbo-chaos-"))
    print(f"chaos: seed {seed}, {vars(args)}, folder {work}", flush=True)
    found = run(args, seed, work)
    print(json.dumps(found, indent=2))
    bad = [name for name in ZERO if found[name]] + ["wrong_client_books"] * any(found["wrong_client_books"])
    print(f"chaos: {'FAILED: ' + ', '.join(bad) if bad else 'all there, once'} (seed {seed})")
    if not bad and not args.keep:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
