"""A shard's state machine: an engine plus what control entries say. Book, persist and gateway apply the same way."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import msgpack

from shared.errors import ImageError
from shared.orderbook.engine import NOTHING, Batch, Engine, Policy
from shared.orderbook.engines import make_engine, restore_engine
from shared.wire.codec import InEntry

MAGIC = b"MBOS"
VERSION = 1
MAX_HEADER_BYTES = 64 * 1024 * 1024
_HEAD = struct.Struct("<4sHHIQ")  # magic, version, zero, header bytes, offset's ordinal


class ShardState:
    """Books of one shard at `(session, ordinal)`, the symbols of its instruments, and whether it is stale.

    `stale`: a gap lies before this state, and no recovery since.
    """

    def __init__(self, policy: Policy = "uncross", *, kind: str = "numba") -> None:
        self.kind = kind
        self.engine: Engine = make_engine(policy, kind)
        self.session = 0
        self.ordinal = 0
        self.symbols: dict[int, str] = {}
        self.stale = False
        self.ended = False

    def apply(self, entry: InEntry, *, effects: bool = False) -> Batch:
        """Apply one entry that follows this state; the caller has checked that its ordinals do."""
        self.ordinal = entry.last
        if entry.records is not None:
            return self.engine.apply(entry.records, entry.first, effects=effects)
        assert entry.control is not None
        return self._control(entry.control, entry.last)

    def _control(self, control: Mapping[str, Any], ordinal: int) -> Batch:
        kind = control["type"]
        if kind == "begin":
            self.session = int(control["session"])
            policy: Policy = control.get("policy", self.engine.policy)
            batch = self.engine.clear(ordinal=ordinal)
            if policy != self.engine.policy:
                self.engine = make_engine(policy, self.kind)
            self.symbols, self.stale, self.ended, self.ordinal = {}, False, False, 1
            return batch
        if kind == "mapping":
            instrument, symbol = int(control["instrument_id"]), str(control["symbol"])
            old = self.symbols.get(instrument)
            self.symbols[instrument] = symbol
            if old is not None and old != symbol:
                return self.engine.clear(instrument, ordinal)
        elif kind == "gap":
            self.stale = True
        elif kind == "recovered":
            self.stale = False
        elif kind == "end":
            self.ended = True
            return self.engine.end(ordinal)
        return NOTHING

    def image(self) -> bytes:
        """The canonical image: header (session, ordinal, symbols, flags) and the engine's image."""
        return encode(self.header(), self.engine.image())

    def freeze(self) -> Callable[[], bytes]:
        """A quick copy of the state; the returned function encodes it and may run in another thread."""
        header, frozen = self.header(), self.engine.freeze()
        return lambda: encode(header, frozen())

    def header(self) -> dict[str, Any]:
        return {
            "session": self.session, "ordinal": self.ordinal, "stale": self.stale, "ended": self.ended,
            "symbols": sorted(self.symbols.items()),
        }  # fmt: skip

    @classmethod
    def restore(cls, image: bytes, *, kind: str = "numba") -> ShardState:
        """The state of an image; ImageError if it is damaged or newer than this program."""
        header, body = decode(image)
        state = cls.__new__(cls)
        state.kind = kind
        try:
            state.session, state.ordinal = int(header["session"]), int(header["ordinal"])
            state.symbols = {int(k): str(v) for k, v in header["symbols"]}
            state.stale, state.ended = bool(header["stale"]), bool(header["ended"])
        except (LookupError, ValueError, TypeError) as error:
            raise ImageError(f"shard image header is damaged: {error!r}") from error
        state.engine = restore_engine(body, kind)
        return state

    def state_hash(self) -> str:
        return self.engine.state_hash()


def encode(header: Mapping[str, Any], body: bytes) -> bytes:
    head = msgpack.packb(dict(header))
    start = _HEAD.pack(MAGIC, VERSION, 0, len(head), int(header["ordinal"]))
    return b"".join((start, head, body))


def decode(image: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, engine image); ImageError if it is none of ours. The engine image carries its own checksum."""
    if len(image) < _HEAD.size:
        raise ImageError(f"a shard image has at least {_HEAD.size} bytes, this one {len(image)}")
    magic, version, _, size, _ = _HEAD.unpack_from(image)
    if magic != MAGIC:
        raise ImageError("not a shard image")
    if version != VERSION:
        raise ImageError(
            f"shard image version {version}, this program reads {VERSION}: upgrade it", version=version
        )
    if size > MAX_HEADER_BYTES or _HEAD.size + size > len(image):
        raise ImageError("shard image is cut short")
    try:
        header = msgpack.unpackb(image[_HEAD.size : _HEAD.size + size], strict_map_key=False)
        return dict(header), image[_HEAD.size + size :]
    except (ValueError, TypeError) as error:
        raise ImageError(f"shard image header is damaged: {error}") from error
