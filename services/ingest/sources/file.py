"""Files as a source: one dataset's DBN files merged into one sequence, or played again and again."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.ingest.sources.annotate import Annotator, gap, plan
from services.ingest.sources.base import Chunk
from services.ingest.sources.merge import merge
from services.ingest.sources.paths import ScannedFile
from services.ingest.sources.sequence import Item, Sequence
from services.ingest.sources.whole import Book
from shared import logs
from shared.dbn import InstrumentSymbol, Message, Part, Reader
from shared.errors import SourceError
from shared.records import MBO, Rows, recv_times
from shared.units import ACTION_CLEAR, F_LAST, RTYPE_MBO, SIDE_NONE, UNDEF_PX, UNDEF_TS

log = logs.get("ingest")
_PAUSE_NS = 1_000_000_000  # market time between two passes of a loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of the input is taken.

    Window by ts_recv in ns, `end` exclusive; symbols: names or instrument ids.
    """

    symbols: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None

    def facts(self) -> dict[str, Any]:
        return {"symbols": sorted(self.symbols), "start": self.start, "end": self.end}

    def is_all(self) -> bool:
        return not self.symbols and self.start is None and self.end is None


def books_in(one: ScannedFile) -> list[Book]:
    """Every (publisher, instrument) of a file, as far as it can be read: it is read once more."""
    books: set[Book] = set()
    with Reader(one.path) as reader, contextlib.suppress(SourceError):
        for part in reader.parts():
            if part.records is not None:
                names = part.records[["publisher_id", "instrument_id"]]
                books.update((int(each[0]), int(each[1])) for each in np.unique(names).tolist())
    return sorted(books)


@dataclass(slots=True)
class Pass:
    """One run through the files: counts what was passed over, says which file was cut off."""

    files: list[ScannedFile]
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    more_to_come: bool = False  # files that are not there yet

    def parts(self, one: ScannedFile) -> Iterator[Part]:
        last = one.first_ts
        with Reader(one.path) as reader:
            for part in reader.parts():
                if part.records is not None:
                    last = int(part.records["ts_recv"][-1])
                yield part
            for name, count in reader.skipped.items():
                self.skipped[name] = self.skipped.get(name, 0) + count
            if (note := reader.truncation()) is not None:
                self.notes.append(note)
                log.warning("file_is_cut_off", file=str(one.path), cut_bytes=reader.cut_bytes, text=note)
                following = [each.first_ts for each in self.files if each.first_ts > last]
                if following or self.more_to_come:
                    why, until = f"{one.path.name} is cut off", min(following, default=None)
                    yield Part(None, gap(why, last, until, has_snapshot=False, books=books_in(one)))

    def merged(self) -> Iterator[Rows | Message]:
        if len(self.files) == 1:
            for part in self.parts(self.files[0]):
                item = part.records if part.message is None else part.message
                assert item is not None
                yield item
            return
        yield from merge([_Opened(self, one) for one in self.files])


@dataclass(frozen=True, slots=True)
class _Opened:
    run: Pass
    file: ScannedFile

    @property
    def first_ts(self) -> int:
        return self.file.first_ts

    def parts(self) -> Iterator[Part]:
        return self.run.parts(self.file)


class FileSource:
    """Files of one dataset, merged by ts_recv. `loop`: again from the beginning, in later market time, for
    ever.

    `notes`: lines for people about what was wrong with the input, complete at the end.
    """

    is_live = False

    def __init__(
        self,
        files: list[ScannedFile],
        selection: Selection | None = None,
        *,
        loop: bool = False,
        kind: str = "file",
        repaired: bool = False,
    ) -> None:
        self._files, self._selection, self._loop = files, selection or Selection(), loop
        self.dataset = files[0].metadata.dataset
        self.identity = self._identify()
        self.spec: Mapping[str, Any] = {
            "kind": kind,
            "files": [one.path.name for one in files],
            **self._selection.facts(),
            "loop": loop,
        }
        if repaired:  # a session of its own, whatever was ingested before
            self.spec = {**self.spec, "repaired": True}
            self.identity = hashlib.sha256(f"repaired {self.identity}".encode()).hexdigest()
        self._instruments: list[InstrumentSymbol] = [
            each for one in files for each in one.metadata.instruments()
        ]
        self._check_symbols()
        self.notes: list[str] = []
        self.skipped: dict[str, int] = {}
        self.total = self._count()
        self._sequence: Sequence | None = None

    def _identify(self) -> str:
        if len(self._files) == 1 and self._selection.is_all() and not self._loop:
            return self._files[0].identity
        facts = [[one.identity for one in self._files], self._selection.facts(), self._loop]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _check_symbols(self) -> None:
        if any(one.metadata.schema is None for one in self._files):
            return  # a live session says its symbols as it goes
        known = {each.symbol for each in self._instruments}
        missing = [text for text in self._selection.symbols if text not in known and not text.isdigit()]
        if missing:
            some = ", ".join(sorted(known)[:10]) + (" …" if len(known) > 10 else "")
            raise SourceError(
                f"{', '.join(missing)}: not in these files of {self.dataset}, which have {some or 'no symbols'}",
                missing=missing,
            )

    def _count(self) -> int | None:
        counts = [one.records_at_most for one in self._files]
        if self._loop or not self._selection.is_all() or None in counts:
            return None
        return sum(each or 0 for each in counts) + len(plan(self._instruments)[0])

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        self.close()
        self._sequence = Sequence(self._passes() if self._loop else self._once(self._annotator()))
        if not self._sequence.skip(position):
            raise SourceError(
                f"{', '.join(self.spec['files'])}: {self._sequence.position} items, the session had taken {position}: "
                "the files have become shorter; restore them, or start over with --fresh",
                position=position,
            )

    def _annotator(self) -> Annotator:
        chosen = self._selection
        return Annotator(self._instruments, frozenset(chosen.symbols), chosen.start, chosen.end)

    def _once(self, annotator: Annotator) -> Iterator[Item]:
        run = Pass(self._files)
        self.notes, self.skipped = run.notes, run.skipped
        taken = 0
        for item in annotator.items(run.merged()):
            taken += isinstance(item, np.ndarray)
            yield item
        if not taken:
            begin = dt.datetime.fromtimestamp(self._files[0].first_ts // 10**9, dt.UTC).isoformat()
            note = f"nothing was taken of {', '.join(self.spec['files'])}: its records begin at {begin}"
            self.notes.append(note)
            log.warning("no_records", dataset=self.dataset, **self._selection.facts(), text=note)

    def _passes(self) -> Iterator[Item]:
        """Every pass begins by clearing the books the one before left, and continues its market time."""
        annotator = self._annotator()
        books: set[tuple[int, int]] = set()
        first = last = shift = 0
        while True:
            count = 0
            if books:
                yield _clears(sorted(books), first + shift)
            annotator.new_pass()
            for item in self._once(annotator):
                if item is None:
                    continue
                if isinstance(item, dict):
                    if shift == 0 or item["type"] != "day":
                        yield item
                    continue
                if shift == 0:
                    pairs = item["publisher_id"].astype(np.uint64) << np.uint64(32) | item["instrument_id"]
                    books.update((int(pair) >> 32, int(pair) & 0xFFFFFFFF) for pair in np.unique(pairs))
                    stamps = recv_times(item)
                    first = first or int(next(iter(stamps[stamps > 0]), 0))
                    last = max(last, int(stamps.max()))
                count += len(item)
                yield _later(item, shift)
            if not count:
                return  # nothing to play again
            shift += last - first + _PAUSE_NS

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        assert self._sequence is not None, "open() first"
        return self._sequence.read(limit)

    def close(self) -> None:
        self._sequence = None


def _later(records: Rows, shift_ns: int) -> Rows:
    if not shift_ns:
        return records
    moved = records.copy()
    for name in ("ts_event", "ts_recv"):
        moved[name] += np.where(moved[name] == np.uint64(UNDEF_TS), np.uint64(0), np.uint64(shift_ns))
    return moved


def _clears(books: list[tuple[int, int]], ts_ns: int) -> Rows:
    """One R record for each book."""
    rows = np.zeros(len(books), MBO)
    rows["length"], rows["rtype"] = MBO.itemsize // 4, RTYPE_MBO
    rows["publisher_id"] = [publisher for publisher, _ in books]
    rows["instrument_id"] = [instrument for _, instrument in books]
    rows["ts_event"] = rows["ts_recv"] = ts_ns
    rows["price"], rows["flags"] = UNDEF_PX, F_LAST
    rows["action"], rows["side"] = ACTION_CLEAR, SIDE_NONE
    return rows
