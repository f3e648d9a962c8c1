"""Compile every kernel into numba's cache: `python -m services.warm`, run once when an image is built.

It sends a short simulated market down the path of the real one (DBN file, router, engine, blocks, bars), so that each
kernel is compiled for the types it meets in service. tests/deploy checks that nothing is left to compile after it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from services.gateway import written
from services.ingest import router
from services.ingest.simulator.market import MarketSpec, instruments
from services.ingest.simulator.simulation import Simulation
from services.persist import derive
from services.simulate import metadata
from shared.blocks import Block, Encoder
from shared.dbn import Reader, Writer
from shared.orderbook.engine import POLICIES
from shared.orderbook.levels import LevelBooks
from shared.orderbook.pick import pick
from shared.orderbook.shard import ShardState
from shared.records import MBO, MBO_SIGNED, Rows
from shared.wire.codec import InEntry, decode_in, encode_records

ENGINE = "engine"
RECORDS = 40_000
WANTED = np.array([1], np.uint32)
SPEC = MarketSpec(seed=1, instruments=4, rate=4000.0, start=1_760_000_000_000_000_000, messages=RECORDS)


def _records(folder: Path) -> Iterator[Rows]:
    """The market through a DBN file, compressed and not."""
    for name in ("warm.dbn", "warm.dbn.zst"):
        path = folder / name
        with Writer(path, metadata(SPEC, instruments(SPEC.instruments))) as out:
            for item in Simulation(replace(SPEC)).items():
                if not isinstance(item, dict):
                    out.write(item)
        with Reader(path) as file:
            yield from (part.records for part in file.parts() if part.records is not None)


def _entry(rows: Rows, first: int) -> InEntry:
    """As it comes from the broker: a read-only view of received bytes."""
    return decode_in(encode_records(rows, first, 0, 0, 0))


def _engine() -> None:
    """The largest kernel, almost half of all the time.

    It shares no function with what `_records` and `_record` need: two processes never write one file of the cache.
    """
    ShardState(POLICIES[0]).apply(_entry(np.zeros(1, MBO), 1), effects=True)


def _record(rows: Rows) -> None:
    """What persist does with records as they come."""
    encoder, tally = Encoder(), derive.Tally()
    received = _entry(rows, 1).records
    assert received is not None
    for records in (received, received.copy()):  # one entry is read-only, several joined are not
        ordinals = np.arange(1, len(records) + 1, dtype=np.uint64)
        tally.add(records)
        derive.running_prefix(records.view(MBO_SIGNED), 0, 0)
        whole = Block(encoder.mbo(records, ordinals))
        whole.mbo()
        whole.mbo(int(records["instrument_id"][0]))


def _follow(parts: list[Rows]) -> None:
    """Engine, book, gateway and what persist derives, of one shard."""
    for policy in POLICIES:
        state, levels, ordinal = ShardState(policy), LevelBooks(), 1
        for index, rows in enumerate(parts):
            entry = _entry(rows, ordinal)
            ordinal = entry.last + 1
            batch = state.apply(entry, effects=index % 2 == 1)
            levels.fold(batch.levels)
            levels.touch(batch.touched)
            written.bbo_events(
                pick(batch.bbo, WANTED), 1, None, stale=False, last=written.Said(), head=b"", tail=b""
            )
            if index:
                continue
            best = Block(Encoder().bbo(batch.bbo, entry.first, entry.last))
            best.bbo()
            for interval_s in derive.INTERVALS_S:
                derive.bars(batch.trades, np.ones(len(batch.trades), np.int64), interval_s)
        ShardState.restore(state.image())


def main(only: str = "") -> int:
    if only == ENGINE:
        _engine()
        return 0
    with (
        subprocess.Popen([sys.executable, "-m", "services.warm", ENGINE]) as other_core,
        tempfile.TemporaryDirectory() as name,
    ):
        parts = [rows for part in _records(Path(name)) for rows in router.split(part, 2) if len(rows)]
        _record(parts[0][:8000])
    if other_core.returncode:
        return other_core.returncode
    _follow([rows[:8000] for rows in parts])
    print("kernels compiled")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
