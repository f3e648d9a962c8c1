"""`mbo bench persist`: records a second into a store on one core, bytes a record, and what reading it back costs.

Writes a real file (synchronous=FULL) through the recorder the service uses: engine, blocks, BBO, trades, bars, images
and offset; only the broker is left out. Every number is of a store whose content was compared with the input.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from services.bench import row_store
from services.persist.local import LocalHistory
from services.persist.recorder import Cadence, Recorder
from services.persist.runs import Run
from services.persist.store import Store, store_path
from shared.blocks import Block, Encoder
from shared.dbn import Reader
from shared.errors import MboError, UsageError
from shared.export import export
from shared.history_types import stored_entry
from shared.records import MBO, Rows
from shared.scheduling import keep_memory
from shared.units import F_LAST, UNDEF_PX

FEED = "bench"
CHUNK = 32_768  # as services/persist/writer.py joins entries
COMMIT = 500_000
HOUR_NS = 3600 * 1_000_000_000
FIRST_ID = 1_000
ROW_RECORDS = 200_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", help="DBN file of MBO records; default: made by the market simulator")
    parser.add_argument(
        "--records", type=int, default=2_000_000, help="at least so many: the file is repeated in time"
    )
    parser.add_argument(
        "--instruments", type=int, nargs="+", default=[1, 200], help="interleaved instruments, a run each"
    )
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Measure each number of instruments; MboError if what was stored is not what went in."""
    keep_memory()  # as the service does
    one = _load(args.file)
    results = []
    for instruments in args.instruments:
        rows = repeat(one, max(args.records, len(one)), instruments)
        results.append(measure(rows, instruments, one))
    if args.json:
        print(json.dumps(results))
        return 0
    for result in results:
        print(f"{result.pop('instruments')} instruments, {result.pop('records')} records")
        for name, value in result.items():
            print(f"  {name:<28}{value:>14,.2f}")
    return 0


def _load(path: str | None) -> Rows:
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            from services.__main__ import dispatch

            made = f"{folder}/made.dbn"
            dispatch(["simulate", made, "--instruments", "1", "--messages", "100000", "--seed", "7"])
            return _load(made)
    with Reader(path) as reader:
        parts = [part.records.copy() for part in reader.parts() if part.records is not None]
    if not parts:
        raise UsageError(f"{path} holds no MBO records")
    return np.concatenate(parts).view(MBO)


def repeat(one: Rows, records: int, instruments: int) -> Rows:
    """The file again and again, each time later, on order ids of its own and after an R that empties the book. Several
    instruments: each begins at another place of the file, so that neighbours are not copies, all merged by time."""
    clear = one[:1].copy()
    clear["action"], clear["side"], clear["price"], clear["size"], clear["order_id"] = (
        ord("R"),
        ord("N"),
        UNDEF_PX,
        0,
        0,
    )
    clear["flags"] = F_LAST
    one = np.concatenate([clear, one])
    span = np.uint64(int(one["ts_recv"].max()) - int(one["ts_recv"].min()) + 1_000_000)
    ids = np.uint64(int(one["order_id"].max()) + 1)
    parts = []
    for instrument in range(instruments):
        begin = instrument * len(one) // instruments
        part = np.tile(one, -(-records // (len(one) * instruments)) + 1)
        again = np.repeat(np.arange(len(part) // len(one), dtype=np.uint64), len(one))
        early = np.uint64(int(one["ts_recv"][begin]) - int(one["ts_recv"][0]))
        for name in ("ts_recv", "ts_event"):
            part[name] += span * again - early
        part["order_id"] += ids * again * (part["action"] != ord("R"))
        part["instrument_id"] = FIRST_ID + instrument
        parts.append(part[begin : begin + -(-records // instruments)])
    rows = np.concatenate(parts)
    return np.ascontiguousarray(rows[np.argsort(rows["ts_recv"], kind="stable")][:records])


def measure(rows: Rows, instruments: int, one: Rows) -> dict[str, Any]:
    """All numbers of one run."""
    n = len(rows)
    result: dict[str, Any] = {"instruments": instruments, "records": n, **codec(rows)}
    record(
        rows[: 2 * CHUNK], Path(tempfile.mkdtemp(prefix="mbo-bench-")), drop=True
    )  # compiled kernels, warm caches
    data = Path(tempfile.mkdtemp(prefix="mbo-bench-"))
    try:
        begun, cpu = time.perf_counter(), time.process_time()
        record(rows, data)
        result["store_records_per_s"] = n / (time.perf_counter() - begun)
        result["store_records_per_cpu_s"] = n / (time.process_time() - cpu)
        db = sqlite3.connect(store_path(data, FEED))
        sums = db.execute(
            "SELECT (SELECT sum(bytes) FROM block), (SELECT coalesce(sum(bytes), 0) FROM bbo_block)"
        )
        result["mbo_bytes_a_record"], result["bbo_bytes_a_record"] = (total / n for total in sums.fetchone())
        db.close()
        result["file_bytes_a_record"] = store_path(data, FEED).stat().st_size / n
        result["row_a_record_per_s"] = row_store.records_per_s(rows[:ROW_RECORDS])  # what it is compared with
        result |= reading(rows, LocalHistory(data))
    finally:
        shutil.rmtree(data)
    return result


def codec(rows: Rows) -> dict[str, float]:
    """The block codec alone."""
    encoder, n = Encoder(), len(rows) // 10_000 * 10_000
    ordinals = np.arange(1, n + 1, dtype=np.uint64)
    encoder.mbo(rows[:10_000], ordinals[:10_000])
    begun = time.perf_counter()
    blocks = [encoder.mbo(rows[a : a + 10_000], ordinals[a : a + 10_000]) for a in range(0, n, 10_000)]
    packed = time.perf_counter() - begun
    Block(blocks[0]).mbo()
    begun = time.perf_counter()
    for index, block in enumerate(blocks):
        if Block(block).mbo().rows.tobytes() != rows[index * 10_000 : (index + 1) * 10_000].tobytes():
            raise MboError("a block did not come back as it went in")
    return {
        "encode_ns_a_record": packed / n * 1e9,
        "decode_ns_a_record": (time.perf_counter() - begun) / n * 1e9,
    }


def record(rows: Rows, data: Path, *, drop: bool = False) -> None:
    """Store records as one shard, as the service does without its broker."""
    store = Store(store_path(data, FEED))
    store.db.execute("INSERT INTO run VALUES (1, 1, 1, 'BENCH', 'raw', 'bench', '{}', 1, 0)")
    recorder = Recorder(Run(1, 1, 1, "raw", "bench", 1, "{}"), 0, Cadence(), Encoder())
    pending = 0
    with ThreadPoolExecutor(1) as disk:
        durable: Future[Any] | None = None
        for at in range(0, len(rows), CHUNK):
            part = rows[at : at + CHUNK]
            recorder.absorb(stored_entry(len(part), at + 1, part, None))
            pending += len(part)
            if pending >= COMMIT or at + CHUNK >= len(rows):
                if durable is not None:
                    durable.result()
                store.db.execute("BEGIN IMMEDIATE")
                recorder.save(store.db, time.time_ns())
                durable = disk.submit(store.db.execute, "COMMIT")
                pending = 0
    if durable is not None:
        durable.result()
    store.close()
    if drop:
        shutil.rmtree(data)


def reading(rows: Rows, history: LocalHistory) -> dict[str, float]:
    """Export rate and the latency of questions, on a store whose records are compared with the input."""
    symbol = str(FIRST_ID)
    own = rows[rows["instrument_id"] == FIRST_ID]
    (span,) = history.spans(FEED, symbol)
    if b"".join(part.rows.tobytes() for part in history.records(span)) != own.tobytes():
        raise MboError("the store does not hold what went in")
    begun = time.perf_counter()
    made = export(history, FEED, symbol, "mbo", "dbn")
    size = sum(len(chunk) for chunk in made.chunks)
    exported = time.perf_counter() - begun
    draw = random.Random(1)  # noqa: S311 - instants to ask for
    low, high = int(rows["ts_recv"][0]), int(rows["ts_recv"][-1])
    instants = [draw.randint(low, high) for _ in range(25)]
    hour = _times(
        instants, lambda at: sum(len(part.rows) for part in history.records(span, at, at + HOUR_NS))
    )
    book = _times(instants, lambda at: history.book_at(FEED, symbol, at))
    if made.rows != len(own) or size < len(own) * MBO.itemsize:
        raise MboError(f"exported {made.rows} of {len(own)} records")
    return {
        "export_dbn_records_per_s": len(own) / exported,
        "hour_ms_p50": statistics.median(hour) * 1e3, "hour_ms_max": max(hour) * 1e3,
        "book_at_ms_p50": statistics.median(book) * 1e3, "book_at_ms_max": max(book) * 1e3,
    }  # fmt: skip


def _times(instants: list[int], ask: Callable[[int], Any]) -> list[float]:
    def each() -> Iterator[float]:
        for at in instants:
            begun = time.perf_counter()
            ask(at)
            yield time.perf_counter() - begun

    return list(each())
