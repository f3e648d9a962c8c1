"""Every key name of the broker, in one place. The table of shared/wire/README.md says what each holds."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SHARDS = 256
_FEED_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def feed_name(text: str) -> str:
    """`text` made fit for a feed's name: lower case, dots and dashes kept; ValueError if nothing is left."""
    name = "".join(c if c in _FEED_CHARS else "-" for c in text.strip().lower())
    if not name.strip("-."):
        raise ValueError(f"{text!r} makes no feed name: use letters, digits, '.', '-' or '_'")
    return name


def shard_of(instrument_id: int, shards: int) -> int:
    """The shard of an instrument: stable over processes, machines and versions (Fibonacci hash of the id)."""
    return (((instrument_id * 2654435769) & 0xFFFFFFFF) * shards) >> 32


def stream_id(session: int, ordinal: int) -> str:
    return f"{session}-{ordinal}"


def parse_id(text: str | bytes) -> tuple[int, int]:
    """(session, ordinal) of a stream ID."""
    session, _, ordinal = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(session), int(ordinal)


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix (tests take a prefix each, so that they never meet)."""

    prefix: str = ""

    def _global(self, name: str) -> str:
        return f"{{{self.prefix}mbo}}:{name}"

    @property
    def feeds(self) -> str:
        return self._global("feeds")

    @property
    def procs(self) -> str:
        return self._global("procs")

    @property
    def api_keys(self) -> str:
        return self._global("keys")

    @property
    def history(self) -> str:
        return self._global("history")

    def feed(self, feed: str, name: str) -> str:
        """`{feed}:name` for name in meta, lease, ckpt, instruments, workers."""
        return f"{{{self.prefix}{feed}}}:{name}"

    def shard(self, feed: str, shard: int, name: str) -> str:
        """`{feed:NN}:name` for name in in, back, out, writer, lease, pos, img, img:…"""
        return f"{{{self.prefix}{feed}:{shard:02d}}}:{name}"
