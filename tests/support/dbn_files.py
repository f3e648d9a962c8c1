"""Write small DBN files for tests, with the product's writer, and read sources to their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import databento
import numpy as np

from services.ingest.sources.base import EndOfSource, Source
from shared.dbn import Interval, Metadata, SymbolMapping, Writer
from shared.records import MBO, Rows

DAY = 20231114


def metadata(
    dataset: str = "TEST.SET",
    symbols: dict[str, int] | None = None,
    *,
    version: int = 3,
    day: int = DAY,
    **more: Any,
) -> Metadata:
    """Metadata that maps each symbol to its id on one day."""
    names = {"ONE": 1} if symbols is None else symbols
    return Metadata(
        dataset=dataset,
        version=version,
        symbols=tuple(names),
        mappings=tuple(
            SymbolMapping(name, (Interval(day, day + 1, str(key)),)) for name, key in names.items()
        ),
        **more,
    )


def write(path: Path, records: Rows, meta: Metadata | None = None) -> Path:
    with Writer(path, meta or metadata()) as out:
        out.write(records)
    return path


def drain(
    source: Source, position: int = 0, *, limit: int = 1000, items: int | None = None
) -> tuple[Rows, list[tuple[int, dict[str, Any]]]]:
    """All records from `position` on (or up to `items` items), and controls with the position after each."""
    source.open(position, source.spec)
    records: list[Rows] = []
    controls: list[tuple[int, dict[str, Any]]] = []
    try:
        while items is None or position < items:
            chunk = source.read(limit if items is None else min(limit, items - position), 0.0)
            if chunk is None:
                break
            if chunk.records is not None:
                assert len(chunk.records) <= limit
                records.append(chunk.records)
            else:
                assert chunk.control is not None
                controls.append((chunk.position, dict(chunk.control)))
            assert chunk.position == position + (1 if chunk.records is None else len(chunk.records))
            position = chunk.position
    except EndOfSource:
        pass
    finally:
        source.close()
    return np.concatenate(records) if records else np.empty(0, MBO), controls


def read_dbn(path: Path) -> databento.DBNStore:
    """By Databento's own client, which leaves a file it opens by name open."""
    return databento.DBNStore.from_bytes(path.read_bytes())
