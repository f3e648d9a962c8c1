"""What a client asks for: the query of /v1/stream (and of a replay) as a checked value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.gateway.instruments import ALL_SYMBOLS, Directory, Instrument
from services.gateway.problems import Problem, bad_parameter
from services.gateway.topic import CHANNELS, TopicKey

MAX_QUERY_CHARS = 16_384
MAX_SYMBOLS = 2_000
MAX_DEPTH = 1_000
MAX_INTERVAL_MS = 60_000
KNOWN = ("symbols", "channels", "depth", "interval", "publisher", "encoding", "compress", "last_event_id")


def is_all(text: str) -> bool:
    """Whether a symbol as a client writes it stands for all instruments (of a dataset)."""
    return text == ALL_SYMBOLS or text.endswith(f":{ALL_SYMBOLS}")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A checked query; hashable, so that equal subscriptions share a group."""

    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    depth: int = 10  # 0: all
    interval_ms: int = 0
    publisher: int | None = None
    columns: bool = False
    compress: bool = False

    @property
    def is_all(self) -> bool:
        return any(map(is_all, self.symbols))

    def covers(self, instrument: Instrument) -> bool:
        """Whether a symbol (not an id) or ALL_SYMBOLS of this subscription means the instrument."""
        feeds = (instrument.dataset.lower(), instrument.feed)
        return any(
            text == name or (text.endswith(f":{name}") and text[: -len(name) - 1].lower() in feeds)
            for text in self.symbols
            for name in (ALL_SYMBOLS, instrument.symbol)
        )

    def keys(self, instrument: Instrument) -> list[TopicKey]:
        """The topics of one instrument under this subscription."""
        return [
            TopicKey(
                channel, instrument.key, instrument.instrument_id, self.publisher,
                self.depth if channel == "book" else 0,
                self.interval_ms if channel in ("book", "bbo") else 0,
                self.columns and channel == "mbo",
            )
            for channel in self.channels
        ]  # fmt: skip


def number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, "")
    if text == "":
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 12) or not low <= int(text) <= high:
        raise bad_parameter(name, f"{name} is a whole number from {low} to {high}")
    return int(text)


def parse(query: Mapping[str, str], known: tuple[str, ...] = KNOWN) -> Subscription:
    """Raises Problem (400) that names the parameter at fault."""
    for name in query:
        if name not in known:
            raise bad_parameter(name, f"unknown parameter; known are {', '.join(known)}")
    symbols = tuple(dict.fromkeys(filter(None, (s.strip() for s in query.get("symbols", "").split(",")))))
    if not symbols:
        raise bad_parameter(
            "symbols", "say symbols=, for example symbols=CLX5 or symbols=ALL_SYMBOLS; see /v1/instruments"
        )
    if len(symbols) > MAX_SYMBOLS:
        raise bad_parameter("symbols", f"at most {MAX_SYMBOLS} symbols a stream")
    channels = tuple(
        dict.fromkeys(filter(None, (c.strip() for c in query.get("channels", "bbo").split(","))))
    )
    if not channels or (wrong := [c for c in channels if c not in CHANNELS]):
        which = f"{wrong[0]!r} is no channel; " if channels else ""
        raise bad_parameter("channels", f"{which}channels are {', '.join(CHANNELS)}")
    depth = 0 if query.get("depth") == "all" else number(query, "depth", 10, 1, MAX_DEPTH)
    encoding = query.get("encoding", "rows")
    if encoding not in ("rows", "columns"):
        raise bad_parameter("encoding", "encoding is rows or columns")
    publisher = number(query, "publisher", -1, 0, 65_535)
    return Subscription(
        symbols, tuple(sorted(channels, key=CHANNELS.index)), depth, number(query, "interval", 0, 0, MAX_INTERVAL_MS),
        None if publisher < 0 else publisher, encoding == "columns", number(query, "compress", 0, 0, 1) == 1,
    )  # fmt: skip


def plain(subscription: Subscription) -> Subscription:
    """The same without compression: for clients that cannot take it."""
    return replace(subscription, compress=False)


def resolve(subscription: Subscription, directory: Directory) -> list[Instrument]:
    """The instruments named; raises Problem (404) that says which symbol is unknown."""
    found: dict[tuple[str, int], Instrument] = {}
    for text in subscription.symbols:
        matches = directory.resolve(text)
        if not matches and not is_all(text):
            shown = text[:60]
            raise Problem(
                404,
                "unknown-symbol",
                "Unknown symbol",
                f"no feed has {shown!r} now: see /v1/instruments",
                "symbols",
            )
        for instrument in matches:
            found[instrument.feed, instrument.instrument_id] = instrument
    return list(found.values())
