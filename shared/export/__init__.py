"""Recorded data as files: DBN, CSV, JSON lines, Parquet; as a stream of bytes in constant memory.

`mbo export` and the gateway's /v1/export use the same three steps: `rows` (what), `formats` (how), `export` (both).
"""

from shared.export.export import Export, export
from shared.export.formats import FORMATS
from shared.export.rows import SCHEMAS

__all__ = ["FORMATS", "SCHEMAS", "Export", "export"]
