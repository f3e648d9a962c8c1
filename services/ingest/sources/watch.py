"""A watched folder as a source: its files in the order they came, new ones as they appear, without an end.

The order is written down before a file is read, so a restart gives the same sequence whatever has come since.
A file is taken once its size has not changed between two looks; writers do best to write elsewhere and
rename.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from services.ingest.sources.annotate import Annotator, gap
from services.ingest.sources.base import Chunk
from services.ingest.sources.file import Pass, Selection, books_in
from services.ingest.sources.paths import is_dbn_name, scan
from services.ingest.sources.sequence import Item, Sequence
from shared import logs
from shared.errors import SourceError, UsageError

log = logs.get("ingest")

LOOK_S = 0.5  # between two looks into the folder


class WatchSource:
    """Files of one dataset in one folder; others in it are said and passed over."""

    is_live = False
    total: int | None = None

    def __init__(self, folder: Path, data: Path, selection: Selection, dataset: str = "") -> None:
        self._folder, self._selection = folder, selection
        if not folder.is_dir():
            raise SourceError(f"{folder}: no such folder to watch", file=str(folder))
        self.dataset = dataset or self._dataset_of_first()
        facts = ["watch", folder.name, self.dataset, selection.facts()]
        self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self.spec: Mapping[str, Any] = {
            "kind": "watch",
            "folder": folder.name,
            "started": time.time_ns(),
            **selection.facts(),
        }
        self._notes = data / "watch"
        self._sequence: Sequence | None = None
        self._sizes: dict[str, int] = {}

    def _dataset_of_first(self) -> str:
        for path in sorted(self._folder.iterdir()):
            if path.is_file() and is_dbn_name(path):
                return scan(path).metadata.dataset
        raise UsageError(f"{self._folder}: nothing in it yet: say which --dataset it is going to be")

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        """Read the files taken so far again, in their order, then go on looking."""
        self.close()
        self._order_file = self._notes / f"{self.identity[:16]}-{spec.get('started', 0)}.json"
        try:
            noted = json.loads(self._order_file.read_text()) if self._order_file.exists() else []
            self._order: list[tuple[str, int]] = [(name, size) for name, size in noted]
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{self._order_file}: cannot be read: {error}: start over with --fresh"
            ) from error
        self._sequence = Sequence(self._items(taken_before=len(self._order)))
        if not self._sequence.skip(position):
            raise SourceError(
                f"{self._folder}: the files taken before hold {self._sequence.position} items, "
                f"the session had taken {position}: restore them, or start over with --fresh",
                position=position,
            )

    def _items(self, taken_before: int) -> Iterator[Item]:
        chosen = self._selection
        annotator = Annotator([], frozenset(chosen.symbols), chosen.start, chosen.end)
        done = 0
        looked = 0.0
        while True:
            while done < len(self._order):
                (name, size), done = self._order[done], done + 1
                if done <= taken_before and self._size(name) != size:
                    raise SourceError(
                        f"{self._folder}: {name} has changed or is gone since it was taken, and what follows it cannot "
                        "be found again: restore them, or start over with --fresh (a better file needs another name)"
                    )
                yield from self._file(name, annotator)
            yield None
            if time.monotonic() - looked >= LOOK_S:
                looked = time.monotonic()
                self._look()

    def _size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return -1

    def _file(self, name: str, annotator: Annotator) -> Iterator[Item]:
        """One file; one that is damaged is said and left where it is."""
        taken = False
        found = None
        try:
            found = scan(self._folder / name)
            if found.metadata.dataset != self.dataset:
                raise SourceError(
                    f"{name}: is of dataset {found.metadata.dataset}, this feed is {self.dataset}"
                )
            log.info("file taken", file=name)
            annotator.instruments = found.metadata.instruments()
            for item in annotator.items(Pass([found], more_to_come=True).merged()):
                taken = taken or isinstance(item, np.ndarray)
                yield item
        except SourceError as error:
            log.warning("file passed over", file=name, text=str(error))
            if taken and found is not None:
                message = gap(f"{name} is damaged", None, None, has_snapshot=False, books=books_in(found))
                yield from annotator.items([message])

    def _look(self) -> None:
        """Take files that are complete and not taken yet, oldest change first, and write the order down."""
        sizes: dict[str, int] = {}
        fresh: list[tuple[int, str]] = []
        known = {name for name, _ in self._order}
        for path in self._folder.iterdir():
            if path.name in known or not is_dbn_name(path):
                continue
            try:
                state = path.stat()
            except FileNotFoundError:
                continue  # renamed away since
            sizes[path.name] = state.st_size
            if state.st_size and self._sizes.get(path.name) == state.st_size:
                fresh.append((state.st_mtime_ns, path.name))
        self._sizes = sizes
        if fresh:
            self._order += [(name, sizes[name]) for _, name in sorted(fresh)]
            self._notes.mkdir(parents=True, exist_ok=True)
            part = self._order_file.with_suffix(".part")
            part.write_text(json.dumps(self._order))
            part.replace(self._order_file)

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        """None at once while nothing is there: `timeout_s` is for sources that can wait."""
        assert self._sequence is not None, "open() first"
        return self._sequence.read(limit)

    def close(self) -> None:
        self._sequence = None
