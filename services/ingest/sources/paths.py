"""Turn what a user gives (files, folders, globs) into files of one dataset each."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.dbn import Metadata, Part, Reader, identity
from shared.errors import SourceError
from shared.records import recv_times

SUFFIXES = (".dbn", ".dbn.zst", ".dbz")  # in folders; a file named by the user may have any name


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A DBN file that was looked into once.

    Enough to order, group and recognise it without opening it again.
    """

    path: Path
    metadata: Metadata
    identity: str
    first_ts: int  # ts_recv of its first record, ns; the start of its query window if it has none
    records_at_most: int | None

    def parts(self) -> Iterator[Part]:
        with Reader(self.path) as reader:
            yield from reader.parts()


def is_dbn_name(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def expand(arguments: Iterable[str]) -> list[Path]:
    """Every file meant, in order, none twice. Raises SourceError for a name that means none."""
    found: dict[Path, None] = {}
    for text in arguments:
        path = Path(text).expanduser()
        if path.is_dir():
            matches = sorted(each for each in path.iterdir() if each.is_file() and is_dbn_name(each))
            if not matches:
                raise SourceError(f"{text}: no .dbn or .dbn.zst file in this folder", file=text)
        elif glob.has_magic(text) and not path.exists():
            matches = sorted(
                Path(each) for each in glob.glob(str(path), recursive=True) if Path(each).is_file()
            )
            if not matches:
                raise SourceError(f"{text}: matches no file", file=text)
        else:
            matches = [path]
        for match in matches:
            found[match] = None
    return list(found)


def scan(path: Path) -> ScannedFile:
    """Look into a file: metadata and first records. Raises SourceError as Reader does."""
    first: list[int] = []

    def records() -> Iterator:  # type: ignore[type-arg]
        for part in reader.parts(chunk_records=1024):
            if part.records is not None:
                if not first:
                    stamps = recv_times(part.records)
                    first.extend(stamps[stamps > 0][:1].tolist())
                yield part.records

    with Reader(path) as reader:
        name = identity(reader.metadata, records())
        start = first[0] if first else reader.metadata.start
        return ScannedFile(path, reader.metadata, name, start, reader.records_at_most)


def by_dataset(files: Iterable[ScannedFile]) -> dict[str, list[ScannedFile]]:
    """Files of each dataset, ordered by first record then name, none twice by content."""
    groups: dict[str, dict[str, ScannedFile]] = {}
    for one in sorted(files, key=lambda each: (each.first_ts, each.path.name)):
        groups.setdefault(one.metadata.dataset, {}).setdefault(one.identity, one)
    return {dataset: list(group.values()) for dataset, group in groups.items()}
