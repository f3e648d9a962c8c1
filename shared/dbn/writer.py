"""Write DBN version 3: metadata, then records as they come; `.zst` in the name compresses."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import zstandard

from shared.dbn.metadata import Metadata, encode
from shared.records import Rows

ZSTD_LEVEL = 3


class Writer:
    """A new DBN file; an existing one is replaced. OSError if it cannot be written."""

    def __init__(self, path: str | Path, metadata: Metadata, *, level: int = ZSTD_LEVEL) -> None:
        self.path = Path(path)
        self.records = 0
        self._file: BinaryIO = self.path.open("wb")
        self._out: BinaryIO = self._file
        if self.path.suffix == ".zst":
            compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
            self._out = cast(BinaryIO, compressor.stream_writer(self._file, closefd=False))
        self._out.write(encode(metadata))

    def write(self, records: Rows) -> None:
        """Append contiguous records of layout MBO (or of any DBN layout)."""
        self._out.write(records.data)
        self.records += len(records)

    def write_raw(self, blob: bytes) -> None:
        """Append whole encoded records of any type."""
        self._out.write(blob)

    def flush(self) -> None:
        """Hand everything written so far to the operating system (compressed: up to the last block)."""
        self._out.flush()
        self._file.flush()

    def close(self) -> None:
        if self._out is not self._file and not self._out.closed:
            self._out.close()
        self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
