"""`python -m tests.benchmarks.engine_parts [FILE]`: images, file to book, level rows, sizes of batches.

CPU time of one thread, median and spread of the repetitions; each result is checked.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from services.bench import cases
from shared.dbn import Metadata, Reader, Writer
from shared.orderbook.books import Books
from shared.orderbook.image import decode, encode
from shared.orderbook.levels import LevelBooks
from shared.records import Rows

REPEAT = 5


def timed(name: str, count: int, unit: str, work: Callable[[], object]) -> None:
    seconds = []
    for _ in range(REPEAT):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    middle = statistics.median(seconds)
    spread = (max(seconds) - min(seconds)) / middle
    print(f"{name:<46} {middle * 1e3:9.2f} ms {middle / count * 1e9:9.1f} ns a {unit} ±{spread:4.0%}")


def images() -> None:
    data = cases.deep(1)
    assert data.warm is not None
    engine = Books("raw")
    engine.apply(data.warm, 1)
    n = len(data.warm)
    image = engine.image()
    assert Books.restore(image).image() == image
    timed("freeze (what the worker waits for)", n, "order", engine.freeze)
    timed("make the image of a frozen one (in a thread)", n, "order", engine.freeze())
    state = engine.state()
    timed("encode alone", n, "order", lambda: encode(state))
    timed("decode", n, "order", lambda: decode(image))
    timed("restore", n, "order", lambda: Books.restore(image))


def batches() -> None:
    data = cases.one_of_many(4)
    for size in (1, 10, 100, 1000, 10_000):
        records = data.records[: min(len(data.records), size * 20_000)]
        engine = Books("uncross")
        assert data.warm is not None
        engine.apply(data.warm, 1)
        place = [len(data.warm) + 1]

        def work(
            engine: Books = engine, size: int = size, place: list[int] = place, rows: Rows = records
        ) -> None:
            for at in range(0, len(rows), size):
                engine.apply(rows[at : at + size], place[0])
                place[0] += size

        timed(f"batches of {size}", len(records), "record", work)


def file_to_book(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = cases.file(str(path), 50)[0].records
        for name in ("big.dbn", "big.dbn.zst"):
            with Writer(Path(folder) / name, Metadata(dataset="GLBX.MDP3")) as out:
                out.write(records)

            def work(name: str = name) -> None:
                engine, ordinal = Books("raw", outputs="bbo"), 1
                with Reader(Path(folder) / name) as reader:
                    for part in reader.parts():
                        if part.records is not None:
                            engine.apply(part.records, ordinal)
                            ordinal += len(part.records)
                assert ordinal == len(records) + 1

            timed(f"file to book, {name}", len(records), "record", work)


def level_rows(path: Path) -> None:
    records = cases.file(str(path), 10)[0].records
    engine = Books("raw")
    rows = np.concatenate(
        [engine.apply(records[at : at + 1000], at).levels for at in range(0, len(records), 1000)]
    )
    many = np.repeat(rows[:, None], 64, 1)
    many["instrument_id"] = np.arange(64)
    for name, each in (("1 book", rows), ("64 books", many.reshape(-1))):
        levels = LevelBooks()
        timed(f"LevelBooks.fold, {name}", len(each), "row", partial(levels.fold, each))


if __name__ == "__main__":
    images()
    batches()
    if len(sys.argv) > 1:
        file_to_book(Path(sys.argv[1]))
        level_rows(Path(sys.argv[1]))
