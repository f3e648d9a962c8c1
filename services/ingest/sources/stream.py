"""Take a live DBN byte stream apart.

Metadata, then MBO records in arrays and other messages, whatever the cuts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shared.dbn import Message, Metadata
from shared.dbn.messages import decode
from shared.dbn.metadata import MAGIC, MAX_METADATA_BYTES
from shared.dbn.metadata import decode as decode_metadata
from shared.dbn.split import DAMAGED, MESSAGE, MORE, split
from shared.errors import SourceError
from shared.records import Rows

_LIMIT = 65_536


class StreamParser:
    """One connection's bytes. `skipped[rtype]` counts records of other types."""

    def __init__(self) -> None:
        self.metadata: Metadata | None = None
        self.skipped = np.zeros(256, np.int64)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[Rows | Message, bytes]]:
        """What became whole, with the bytes of each message (b"" for records).

        SourceError if it is no DBN.
        """
        if self._rest:
            data = self._rest + data
        at = 0
        if self.metadata is None:
            length = 8 + int.from_bytes(data[4:8], "little") if len(data) >= 8 else 8
            if len(data) >= 4 and (data[:3] != MAGIC or length > MAX_METADATA_BYTES):
                raise SourceError("the gateway sent something that is not DBN: is --gateway right?")
            if len(data) < length or len(data) < 8:
                self._rest = data
                return
            self.metadata = decode_metadata(data[3], data[8:length])
            at = length
        block: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        while True:
            # what Databento adds one day is no damage: every reconnect would meet it again
            at, records, why = split(block, at, _LIMIT, self.skipped, any_type=True)
            if len(records):
                yield records, b""
            if why == DAMAGED:
                raise SourceError(
                    f"the gateway sent a damaged record (length {block[at]}, type {block[at + 1]})"
                )
            if why == MESSAGE:
                raw = data[at : at + int(block[at]) * 4]
                message = decode(np.frombuffer(raw, np.uint8))
                if message is not None:
                    yield message, raw
                at += len(raw)
            elif why == MORE:
                break
        self._rest = data[at:]
