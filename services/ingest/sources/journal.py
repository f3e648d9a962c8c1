"""The local journal of a live source: DBN files in order, rotated and limited in size, from which any
position that is still kept can be given out again.

A segment's name says the position of its first item; a file beside it holds the state at that point (what was
taken per instrument, names, definitions). Gaps and recoveries are DBN system messages with a text of ours, so every
segment is a DBN file that Databento's own tools read.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.ingest.sources.annotate import gap, recovered
from shared.dbn import Message, Metadata, Reader, Writer
from shared.dbn.messages import LAYOUTS, RTYPE_SYSTEM
from shared.errors import SourceError
from shared.records import Rows

MAX_TOKENS = 1000  # a broker may come back with the last of them, not with the thousandth
MAX_SEGMENT_BYTES = 256 * 1024 * 1024
_TEXT = "mbostream "
_SYSTEM_BYTES = 320


class Saved(NamedTuple):
    """State before a segment's first item."""

    position: int
    slots: NDArray[Any]
    facts: dict[str, Any]


def encode_own(message: Message) -> bytes:
    """A message of ours (gap, recovered) as a DBN system message."""
    record = np.zeros(_SYSTEM_BYTES, np.uint8)
    record[0], record[1] = _SYSTEM_BYTES // 4, RTYPE_SYSTEM
    row = record.view(LAYOUTS[RTYPE_SYSTEM, _SYSTEM_BYTES])[0]
    row["instrument_id"], row["ts_event"], row["code"] = message.instrument_id, message.ts_event, 255
    fields = {"kind": message.kind, **message.fields}
    if "reason" in fields:
        fields["reason"] = str(fields["reason"])[:120]
    row["text"] = (_TEXT + json.dumps(fields, separators=(",", ":"))).encode()
    return record.tobytes()


def decode_own(message: Message) -> Message | None:
    """The message of ours in a system message, if it is one."""
    if message.kind != "system" or not message.fields["text"].startswith(_TEXT):
        return None
    fields = json.loads(message.fields["text"].removeprefix(_TEXT))
    if fields.pop("kind") == "recovered":
        return recovered(message.ts_event)
    has_snapshot = "books" not in fields
    return gap(
        fields["reason"], fields["from"], fields["to"], message.instrument_id, has_snapshot=has_snapshot
    )


class Tokens:
    """The tokens under which a journal's items were published, one a line, newest last."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _all(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def has_all(self, wanted: set[str]) -> bool:
        return wanted <= set(self._all())

    def add(self, token: str) -> None:
        """Durable before anything is published under it; SourceError if the disk fails."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_suffix(".draft")
            with draft.open("w", encoding="utf-8") as file:
                file.write("\n".join([*self._all()[1 - MAX_TOKENS :], token]))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as error:
            raise SourceError(f"journal {self.path}: {error.strerror or error}") from error


def give_up(folder: Path) -> Path:
    """Move a feed's journals aside, where nothing reads them but a person; the name they have now.

    Nothing is lost if it was given up by mistake (another broker, a copied folder). Only the last one is kept: of one
    moved aside before, the files that a journal writes are deleted, and no others.
    """
    aside = folder.with_name(f"{folder.name}.given-up")
    try:
        for path in sorted(aside.glob("*/*-*.*")):
            if path.suffix in (".dbn", ".npz") and not path.is_symlink():
                path.unlink()
        if aside.exists():
            (aside / "tokens").unlink(missing_ok=True)
            for each in aside.iterdir():
                with contextlib.suppress(OSError):  # somebody else's files are in it
                    each.rmdir()
            with contextlib.suppress(OSError):
                aside.rmdir()
        if aside.exists():
            aside = folder.with_name(f"{aside.name}-{time.time_ns()}")
        folder.rename(aside)
    except OSError as error:
        raise SourceError(f"journal {folder}: {error.strerror or error}: move it aside by hand") from error
    return aside


class Journal:
    """Segments in one folder. OSError of the disk becomes SourceError."""

    def __init__(self, folder: Path, dataset: str, limit_bytes: int) -> None:
        self.folder, self._dataset, self._limit = folder, dataset, limit_bytes
        self._segment_bytes = max(min(MAX_SEGMENT_BYTES, limit_bytes // 8), 4096)
        self._writer: Writer | None = None
        self._written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> SourceError:
        return SourceError(f"journal {self.folder}: {error.strerror or error}: free the disk or set --data")

    def segments(self) -> list[tuple[int, Path]]:
        """(position of the first item, file), in order."""
        return sorted(
            (int(path.name.split("-")[1].split(".")[0]), path) for path in self.folder.glob("*-*.dbn")
        )

    def saved(self, position: int) -> tuple[Saved, list[Path]] | None:
        """The newest state at or before `position` with its segment and all after it.

        None if there is none.
        """
        segments = self.segments()
        before = [index for index, (first, _) in enumerate(segments) if first <= position]
        if not before:
            return None
        first, path = segments[before[-1]]
        try:
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as state:
                saved = Saved(first, state["slots"].copy(), json.loads(bytes(state["facts"]).decode()))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return saved, [each for _, each in segments[before[-1] :]]

    @staticmethod
    def read(paths: list[Path]) -> Iterator[Rows | Message]:
        """Everything in these segments; a record that was being written when the process died is left out."""
        for path in paths:
            with Reader(path) as reader:
                for part in reader.parts():
                    if part.message is not None:
                        yield decode_own(part.message) or part.message
                    elif part.records is not None:
                        yield part.records

    def size(self) -> int:
        """Bytes of all segments."""
        total = 0
        for _, path in self.segments():
            with contextlib.suppress(FileNotFoundError):  # dropped meanwhile
                total += path.stat().st_size
        return total

    def newest_mtime_s(self) -> float:
        """When the journal was last written to, seconds since the epoch; 0.0 if it is empty."""
        return max((path.stat().st_mtime for _, path in self.segments()), default=0.0)

    def needs_segment(self) -> bool:
        return self._writer is None or self._written >= self._segment_bytes

    def begin_segment(self, saved: Saved) -> None:
        """Close the current segment, begin the next one, delete the oldest ones over the limit."""
        try:
            self.close()
            numbers = [int(path.name.split("-")[0]) for path in self.folder.glob("*-*.dbn")]
            number = max(numbers, default=-1) + 1
            path = self.folder / f"{number:08}-{saved.position}.dbn"
            facts = np.frombuffer(json.dumps(saved.facts).encode(), np.uint8)
            np.savez(path.with_suffix(".npz"), slots=saved.slots, facts=facts)
            self._writer = Writer(path, Metadata(dataset=self._dataset, schema=None, stype_in=None))
            self._written = 0
            self._drop_oldest()
        except OSError as error:
            raise self._failed(error) from error

    def _drop_oldest(self) -> None:
        paths = [path for _, path in self.segments()]
        sizes = [path.stat().st_size for path in paths]
        while len(paths) > 2 and sum(sizes) > self._limit:
            paths[0].with_suffix(".npz").unlink(missing_ok=True)
            paths.pop(0).unlink()
            sizes.pop(0)

    def write(self, item: Rows | bytes) -> None:
        assert self._writer is not None, "begin_segment() first"
        try:
            if isinstance(item, bytes):
                self._writer.write_raw(item)
                self._written += len(item)
            else:
                self._writer.write(np.ascontiguousarray(item))
                self._written += item.nbytes
        except OSError as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        """What was written survives this process; not a power cut (the broker's AOF has the same bound)."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except OSError as error:
                raise self._failed(error) from error

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # `flush` said it
                self._writer.close()
            self._writer = None
