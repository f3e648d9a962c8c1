"""The bytes of a DBN file in blocks: memory-mapped, or decompressed by a thread that reads ahead."""

from __future__ import annotations

import mmap
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from shared.errors import SourceError

Bytes = NDArray[np.uint8]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES = 16384 * 56
AHEAD_BLOCKS = 3  # what the reading thread holds at most, beside the one in use
_DROP_BYTES = 8 * 1024 * 1024  # mapped pages are given back in steps of this
_READ_BYTES = 128 * 1024


def is_skippable(magic: bytes) -> bool:
    """A zstd skippable frame (legacy DBZ files begin with one)."""
    return len(magic) >= 4 and magic[1:4] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50


class Blocks(Protocol):
    truncated: bool  # the compressed stream ended before its end (known when all was read)

    def __iter__(self) -> Iterator[Bytes]: ...
    def done_with(self, offset: int) -> None: ...
    def close(self) -> None: ...


class MappedFile:
    """The whole file as one writable private view: zero-copy, and never written back.

    Writable because the kernels are compiled for writable arrays only. A file that another program shortens
    while it is mapped ends this process (SIGBUS): files are to be complete before they are given to us.
    """

    truncated = False

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._map.madvise(mmap.MADV_SEQUENTIAL)
        self._dropped = 0

    def __iter__(self) -> Iterator[Bytes]:
        yield np.frombuffer(self._map, np.uint8)

    def done_with(self, offset: int) -> None:
        """Give back pages far behind `offset`, so that a long file does not fill this process's resident
        memory.

        Views of them stay valid: a page that is touched again is read again.
        """
        while offset - self._dropped > 2 * _DROP_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED, self._dropped, _DROP_BYTES)
            self._dropped += _DROP_BYTES

    def close(self) -> None:
        """The mapping itself goes when the last view of it does."""


def zstd_is_complete(path: Path) -> bool:
    """Whether the last zstd frame ends where the file does (walks block headers, decompresses nothing)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        at, end = 0, len(view)
        while at < end:
            if end - at < 9:
                return False
            if is_skippable(view[at : at + 4]):
                at += 8 + int.from_bytes(view[at + 4 : at + 8], "little")
                continue
            try:
                head = view[at : at + 18]
                checksum = zstandard.get_frame_parameters(head).has_checksum
                at += zstandard.frame_header_size(head)
            except zstandard.ZstdError:
                return False
            last = False
            while not last:
                if at + 3 > end:
                    return False
                block = int.from_bytes(view[at : at + 3], "little")
                last, kind = bool(block & 1), block >> 1 & 3
                at += 3 + (1 if kind == 1 else block >> 3)
            at += 4 if checksum else 0
        return at == end


class ZstdFile:
    """Decompressed blocks of BLOCK_BYTES (the last one shorter), at most AHEAD_BLOCKS ahead of the reader."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._stream = zstandard.ZstdDecompressor().stream_reader(
            self._file, read_size=_READ_BYTES, read_across_frames=True
        )
        self._queue: queue.Queue[Bytes | BaseException | None] = queue.Queue(AHEAD_BLOCKS)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.truncated = False
        self._failed: zstandard.ZstdError | None = None

    def _fill(self) -> Bytes:
        block = np.empty(BLOCK_BYTES, np.uint8)
        view, at = memoryview(block.data), 0
        while at < BLOCK_BYTES:
            try:
                got = self._stream.readinto(view[at:])
            except zstandard.ZstdError as error:
                if at == 0:
                    raise
                self._failed = error  # after the records that were good
                break
            if not got:
                break
            at += got
        return block[:at]

    def _ahead(self) -> None:
        item: Bytes | BaseException | None
        while not self._stop.is_set():
            try:
                block = self._fill()
                item = block if len(block) else None
                if item is None:
                    self.truncated = not zstd_is_complete(self._path)
            except Exception as error:  # noqa: BLE001 - whatever it is: the reader waits for it
                item = error
            self._put(item)
            if self._failed is not None:
                item = self._failed
                self._put(item)
            if not isinstance(item, np.ndarray):
                return

    def _put(self, item: Bytes | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def __iter__(self) -> Iterator[Bytes]:
        """Blocks until the end; SourceError where the compressed data is damaged."""
        self._thread = threading.Thread(target=self._ahead, name=f"unzstd {self._path.name}", daemon=True)
        self._thread.start()
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise SourceError(
                    f"{self._path}: compressed data is damaged before byte {self._file.tell()} ({item}): "
                    "download it again",
                    file=str(self._path),
                    byte=self._file.tell(),
                ) from item
            yield item

    def done_with(self, offset: int) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            while self._thread.is_alive():
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    self._thread.join(0.05)
        self._file.close()
