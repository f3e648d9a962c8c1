"""Read DBN files of any size in constant memory: metadata, then MBO records in contiguous arrays.

A file of MBO records alone gives views of its mapped or decompressed bytes, found with one vectorised look at
the record headers; a file of mixed records goes through the kernel of split.py. Bad input ends in one
SourceError line that says what, where and what to do, after everything before it was given out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from shared.dbn import metadata as meta
from shared.dbn import split
from shared.dbn.blocks import ZSTD_MAGIC, Blocks, Bytes, MappedFile, ZstdFile, is_skippable
from shared.dbn.messages import RTYPES, Message, decode
from shared.errors import SourceError
from shared.records import MBO, Rows
from shared.units import MBO_BYTES, RTYPE_MBO

CHUNK_RECORDS = 65_536
_HEAD = RTYPE_MBO << 8 | MBO_BYTES // 4
_PREFIX = 8


class Part(NamedTuple):
    """Either MBO records or one message, in file order."""

    records: Rows | None
    message: Message | None


class Reader:
    """One DBN file. `metadata` is there at once; `cut_bytes`, `truncated` and `skipped` when `parts` has
    ended.

    Raises SourceError: missing, empty, not DBN, legacy DBZ, newer version, or of a schema without MBO
    records.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.cut_bytes = 0  # of a last record that is not whole
        self._counts = np.zeros(256, np.int64)
        self._blocks = self._open()
        self._iterator = iter(self._blocks)
        try:
            self.metadata, self._first = self._read_metadata()
        except BaseException:
            self.close()
            raise

    def _fail(self, what: str, **facts: object) -> SourceError:
        return SourceError(f"{self.path}: {what}", file=str(self.path), **facts)

    def _open(self) -> Blocks:
        try:
            if self.path.is_dir():
                raise self._fail("is a folder: give the files in it")
            if self.path.exists() and not self.path.is_file():
                raise self._fail("is a pipe or a device: give a file, it is read more than once")
            with self.path.open("rb") as file:
                magic = file.read(12)
            self.size_bytes = self.path.stat().st_size
            if not magic:
                raise self._fail("is empty (0 bytes): download it again")
            if is_skippable(magic) and magic[8:11] == b"DBZ":
                raise self._fail(
                    "is legacy DBZ (before DBN): convert it with Databento's dbn tool: "
                    f"dbn {self.path.name} --output {self.path.stem}.dbn"
                )
            self.is_compressed = magic[:4] == ZSTD_MAGIC or is_skippable(magic)
            return ZstdFile(self.path) if self.is_compressed else MappedFile(self.path)
        except FileNotFoundError:
            raise self._fail("no such file") from None
        except OSError as error:
            raise self._fail(f"cannot be read: {error.strerror or error}") from error

    def _read_metadata(self) -> tuple[meta.Metadata, Bytes]:
        """The metadata and the rest of the block it ended in."""
        block = next(self._iterator, np.empty(0, np.uint8))
        if len(block) < _PREFIX or block[:3].tobytes() != meta.MAGIC:
            begun = self.is_compressed or meta.MAGIC.startswith(block[:3].tobytes())
            if self._blocks.truncated or (begun and len(block) < _PREFIX):
                raise self._fail("is cut off before its metadata ends: download it again", byte=len(block))
            raise self._fail(
                f"is not a DBN file (begins with {block[:4].tobytes()!r}, not 'DBN'): give .dbn or .dbn.zst",
                byte=0,
            )
        length = int.from_bytes(block[4:8].tobytes(), "little")
        if length > meta.MAX_METADATA_BYTES:
            raise self._fail(f"metadata claims {length} bytes: the file is damaged", byte=4)
        while len(block) < _PREFIX + length:
            more = next(self._iterator, None)
            if more is None:
                raise self._fail(
                    f"is cut off in its metadata, byte {len(block)} of {_PREFIX + length}: download it again",
                    byte=len(block),
                )
            block = np.concatenate((block, more))
        self._records_at = _PREFIX + length
        try:
            found = meta.decode(int(block[3]), block[_PREFIX : self._records_at].tobytes())
        except SourceError as error:
            raise self._fail(str(error), byte=0) from None
        if found.schema not in ("mbo", None):
            raise self._fail(
                f"has schema {found.schema}, books need mbo: download {found.dataset} with schema='mbo'",
                schema=found.schema,
            )
        return found, block[self._records_at :]

    @property
    def records_at_most(self) -> int | None:
        """How many records the file can hold, where its size says so."""
        return None if self.is_compressed else (self.size_bytes - self._records_at) // MBO_BYTES

    @property
    def skipped(self) -> dict[str, int]:
        """Records of other types passed over, by type."""
        return {RTYPES[int(rtype)]: int(self._counts[rtype]) for rtype in np.flatnonzero(self._counts)}

    @property
    def truncated(self) -> bool:
        """The file ends inside a record or inside its compressed stream."""
        return self.cut_bytes > 0 or self._blocks.truncated

    def parts(self, chunk_records: int = CHUNK_RECORDS) -> Iterator[Part]:
        """Everything in file order, records in arrays of at most `chunk_records`; can be run through once.

        The arrays stay valid for as long as they are held. Raises SourceError at a damaged record.
        """
        block, at, base, index = self._first, 0, self._records_at, 0
        self._first = np.empty(0, np.uint8)
        plain = not self.metadata.ts_out
        while True:
            while True:
                if plain:
                    whole = min((len(block) - at) // MBO_BYTES, chunk_records)
                    heads = block[at : at + whole * MBO_BYTES].view("<u2")[:: MBO_BYTES // 2]
                    good = whole if (same := heads == _HEAD).all() else int(same.argmin())
                    if good:
                        yield Part(block[at : at + good * MBO_BYTES].view(MBO), None)
                        index += good
                        at += good * MBO_BYTES
                        self._blocks.done_with(base + at)
                        continue
                    if whole == 0 and self._is_begun(block[at:]):
                        break  # without the kernel: a plain file never compiles it
                at, records, why = split.split(block, at, chunk_records, self._counts)
                if len(records):
                    yield Part(records, None)
                    index += len(records)
                    self._blocks.done_with(base + at)
                if why == split.DAMAGED:
                    raise self._damaged(block, at, base, index)
                if why == split.MESSAGE:
                    size = int(block[at]) * 4
                    message = decode(block[at : at + size])
                    if message is None:
                        self._counts[block[at + 1]] += 1
                    else:
                        yield Part(None, message)
                    at += size
                elif why == split.MORE:
                    break
            rest = block[at:]
            base += at
            more = next(self._iterator, None)
            if more is None:
                self.cut_bytes = len(rest)
                return
            block, at = (np.concatenate((rest, more)) if len(rest) else more), 0

    @staticmethod
    def _is_begun(rest: Bytes) -> bool:
        """Whether too few bytes for a record are, as far as they go, the beginning of an MBO record."""
        return len(rest) < 2 or (int(rest[0]) | int(rest[1]) << 8) == _HEAD

    def _damaged(self, block: Bytes, at: int, base: int, index: int) -> SourceError:
        where = base + at
        unit = "byte of the decompressed data" if self.is_compressed else "byte"
        if block[at : at + 3].tobytes() == meta.MAGIC:
            return self._fail(
                f"before record {index} at {unit} {where} another DBN file begins: give them as two",
                record=index,
                byte=where,
            )
        return self._fail(
            f"record {index} at {unit} {where} is damaged "
            f"(length {int(block[at]) * 4}, type {int(block[at + 1])}): download the file again; "
            f"the {index} MBO records before it are good",
            record=index, byte=where,
        )  # fmt: skip

    def truncation(self) -> str | None:
        """One line for people about a file that ended early, after `parts` has ended.

        None if it was whole.
        """
        if not self.truncated:
            return None
        return (
            f"{self.path}: is cut off: its last {self.cut_bytes} bytes are no whole record"
            f"{' and its compressed stream has no end' if self._blocks.truncated else ''}; "
            "everything before them was read; download it again for the rest"
        )

    def close(self) -> None:
        self._blocks.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
