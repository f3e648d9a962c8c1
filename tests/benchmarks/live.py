"""`python -m tests.benchmarks.live`: how fast live records come in, from the gateway's socket to arrays, journaled.

The fake gateway runs in a process of its own and sends as fast as it is read. Three ways to read it, the same records,
each result checked: our source (journal, resume state, symbols, arrays), the databento client with a callback a record,
and the client with a callback that does nothing but count. CPU is that of the reading process, all its threads.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import databento
import numpy as np

from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from services.ingest.sources.live import LiveSource
from services.ingest.sources.options import SourceOptions
from services.simulate import metadata
from shared.dbn import Writer
from shared.records import Rows
from tests.support.fake_live_gateway import KEY

DATASET = "SIM.MBO"
LIMIT = 8_000  # records of one read, as ingest asks for with four shards


def market(records: int) -> tuple[Rows, Simulation]:
    spec = MarketSpec(
        seed=1, instruments=128, messages=records, rate=48_000, day_s=records / 48_000, preopen_s=1.0
    )
    simulation = Simulation(spec)
    return np.concatenate([item for item in simulation.items() if not isinstance(item, dict)]), simulation


@contextmanager
def gateway(path: Path) -> Iterator[str]:
    """The address of a gateway that plays the file from its beginning."""
    command = [sys.executable, "-m", "tests.support.fake_live_gateway", str(path), "--port", "0"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().split()[2].rstrip(",")
    finally:
        process.stdin.write("quit\n")
        process.stdin.flush()
        process.wait(30)


def by_source(address: str, rows: Rows, folder: Path) -> None:
    key = folder / "key"
    key.write_text(KEY)
    source = LiveSource(
        SourceOptions(source=("live",), dataset=DATASET, gateway=address, key_file=key, data=folder)
    )
    source.open(0, source.spec)
    done = 0
    while done < len(rows):
        chunk = source.read(LIMIT, 0.05)
        if chunk is not None and chunk.records is not None:
            part = chunk.records
            assert part.tobytes() == rows[done : done + len(part)].tobytes()
            done += len(part)
    source.close()


def by_callback(keep: bool) -> Callable[[str, Rows, Path], None]:
    def read(address: str, rows: Rows, folder: Path) -> None:
        host, port = address.split(":")
        client = databento.Live(key=KEY, gateway=host, port=int(port))
        found: list[object] = []
        count = 0

        def on(record: object) -> None:
            nonlocal count
            if isinstance(record, databento.MBOMsg):
                count += 1
                if keep:
                    found.append((record.order_id, record.price, record.size, record.action, record.side))

        client.subscribe(DATASET, "mbo", "ALL_SYMBOLS")
        client.add_callback(on)
        client.start()
        while count < len(rows):
            time.sleep(0.01)
        client.terminate()
        assert count == len(rows)

    return read


def measure(
    name: str, rows: Rows, simulation: Simulation, runs: int, read: Callable[[str, Rows, Path], None]
) -> None:
    rates, costs = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            with Writer(folder / "market.dbn", metadata(simulation.spec, simulation.instruments)) as out:
                out.write(rows)
            with gateway(folder / "market.dbn") as address:
                wall, cpu = time.monotonic(), time.process_time()
                read(address, rows, folder)
                wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        rates.append(len(rows) / wall)
        costs.append(cpu / len(rows) * 1e6)
    print(
        f"{name:<34} {statistics.median(rates):12,.0f} records/s ({min(rates):,.0f} to {max(rates):,.0f}), "
        f"{statistics.median(costs):.3f} CPU-s a million",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rows, simulation = market(args.records)
    few = rows[: max(args.records // 10, 1)]
    measure("our source, journal and all", rows, simulation, args.runs, by_source)
    measure("client, a callback that counts", few, simulation, args.runs, by_callback(keep=False))
    measure("client, a callback that reads", few, simulation, args.runs, by_callback(keep=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
