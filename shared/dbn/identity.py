"""What makes two inputs the same source: their content, not their path, size, compression or DBN version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from shared.dbn.metadata import Metadata
from shared.records import MBO, Rows

IDENTITY_RECORDS = 1_000


def identity(metadata: Metadata, parts: Iterable[Rows]) -> str:
    """Hex sha256 of dataset, query window, symbols and first records (DESIGN.md section 4)."""
    digest = hashlib.sha256()
    facts = [metadata.dataset, metadata.start, metadata.end, metadata.limit, sorted(metadata.symbols)]
    digest.update(json.dumps(facts).encode())
    left = IDENTITY_RECORDS
    for records in parts:
        head = records[:left]
        digest.update(np.ascontiguousarray(head, dtype=MBO).tobytes())
        left -= len(head)
        if left <= 0:
            break
    return digest.hexdigest()
