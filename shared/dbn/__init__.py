"""Databento Binary Encoding (DBN), versions 1 to 3: read and write files of market-by-order records.

with Reader("CLX5.mbo.dbn.zst") as reader:
    for part in reader.parts():
        ...  # part.records: layout records.MBO; or part.message: a mapping, definition, status …
"""

from shared.dbn.identity import identity
from shared.dbn.messages import Message
from shared.dbn.metadata import InstrumentSymbol, Interval, Metadata, SymbolMapping
from shared.dbn.reader import Part, Reader
from shared.dbn.writer import Writer

__all__ = [
    "InstrumentSymbol",
    "Interval",
    "Message",
    "Metadata",
    "Part",
    "Reader",
    "SymbolMapping",
    "Writer",
    "identity",
]
