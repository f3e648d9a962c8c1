"""Parameters of the two SSE routes, for the OpenAPI document; they are served outside Starlette."""

from __future__ import annotations

from services.gateway.subscription import MAX_DEPTH, MAX_INTERVAL_MS
from services.gateway.table import END, PUBLISHER, SESSION, START, TEXT, Param
from services.gateway.topic import CHANNELS

SYMBOLS = Param(
    "symbols",
    "raw symbols, DATASET:SYMBOL, instrument ids or ALL_SYMBOLS, comma separated",
    {"type": "string", "minLength": 1},
    required=True,
    example="CLX5",
)
CHANNEL = Param(
    "channels",
    f"comma separated: {', '.join(CHANNELS)}",
    {"type": "string", "default": "bbo"},
    example="bbo,book,trades",
)
DEPTH = Param(
    "depth",
    "levels a side of `book`, or all",
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_DEPTH}, {"const": "all"}], "default": 10},
)
INTERVAL = Param(
    "interval",
    "ms: bbo and book at most once in that time",
    {"type": "integer", "minimum": 0, "maximum": MAX_INTERVAL_MS, "default": 0},
)
ENCODING = Param(
    "encoding", "of mbo batches", {"type": "string", "enum": ["rows", "columns"], "default": "rows"}
)
COMPRESS = Param(
    "compress", "1: deflate, compressed once for all", {"type": "integer", "enum": [0, 1], "default": 0}
)
LAST_ID = Param("last_event_id", "as the header Last-Event-ID: go on after this id", TEXT)
SPEED = Param(
    "speed",
    "times market time, or max",
    {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "max"}], "default": 1},
)

STREAM_PARAMS = [SYMBOLS, CHANNEL, DEPTH, INTERVAL, PUBLISHER, ENCODING, COMPRESS, LAST_ID]
REPLAY_PARAMS = [SYMBOLS, CHANNEL, DEPTH, INTERVAL, PUBLISHER, ENCODING, START, END, SPEED, SESSION, LAST_ID]
