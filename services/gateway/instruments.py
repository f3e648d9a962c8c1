"""Which instruments exist: symbols to (feed, shard, instrument_id), from the feeds' keys in the broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.gateway.vector import ShardKey, run_name
from shared.units import px_to_str
from shared.wire.keys import shard_of

ALL_SYMBOLS = "ALL_SYMBOLS"


@dataclass(frozen=True, slots=True)
class Feed:
    """`{feed}:meta`."""

    name: str
    dataset: str
    shards: int
    session: int
    state: str  # open, ended
    policy: str
    readers: tuple[str, ...] = ()
    run: str = ""  # see `run_name`

    @classmethod
    def of(cls, name: str, meta: Mapping[str, str]) -> Feed | None:
        """None while ingest has not written the number of shards."""
        if not meta.get("shards"):
            return None
        readers = tuple(filter(None, meta.get("readers", "").split(",")))
        session = int(meta.get("session") or 0)
        dataset = meta.get("dataset", "")
        return cls(
            name,
            dataset,
            int(meta["shards"]),
            session,
            meta.get("state", "open"),
            meta.get("policy", ""),
            readers,
            run_name(meta.get("identity", ""), json.loads(meta.get("spec") or "{}")),
        )


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument of one feed; `publishers` grows as books appear."""

    feed: str
    dataset: str
    shard: int
    instrument_id: int
    symbol: str
    publishers: tuple[int, ...] = ()
    tick_size: str | None = None
    multiplier: str | None = None
    currency: str | None = None
    expiration: str | None = None

    @property
    def key(self) -> ShardKey:
        return ShardKey(self.feed, self.shard)

    @classmethod
    def of(cls, feed: Feed, instrument_id: int, row: Mapping[str, Any]) -> Instrument:
        """From the JSON of `{feed}:instruments`."""
        tick, expiration = row.get("tick_px"), row.get("expiration")
        return cls(
            feed.name, feed.dataset, shard_of(instrument_id, feed.shards), instrument_id,
            str(row.get("symbol") or instrument_id), tuple(row.get("publishers") or ()),
            px_to_str(int(tick)) if tick else None, row.get("multiplier") or None, row.get("currency") or None,
            str(expiration) if expiration else None,
        )  # fmt: skip


@dataclass(slots=True)
class Directory:
    """All feeds and instruments known; resolves what a client writes as a symbol."""

    feeds: dict[str, Feed] = field(default_factory=dict)
    by_id: dict[tuple[str, int], Instrument] = field(default_factory=dict)
    # ts_recv at which an instrument's book last changed, 0 for no book
    changed: Callable[[Instrument], int] = lambda _: 0
    _by_symbol: dict[str, list[Instrument]] | None = (
        None  # made when somebody asks: thousands may appear at once
    )

    def load(self, feed: Feed, rows: Mapping[str, str]) -> list[Instrument]:
        """Take a feed's instruments as the broker has them; those new or with another symbol."""
        self.feeds[feed.name] = feed
        changed = []
        for text, blob in rows.items():
            fresh = Instrument.of(feed, int(text), json.loads(blob))
            known = self.by_id.get((feed.name, fresh.instrument_id))
            if known is not None:
                publishers = tuple(sorted({*known.publishers, *fresh.publishers}))
                fresh = replace(fresh, publishers=publishers)
            if known != fresh:
                self.by_id[feed.name, fresh.instrument_id] = fresh
                if known is None or known.symbol != fresh.symbol:
                    changed.append(fresh)
        self._by_symbol = None
        return changed

    def see(
        self, key: ShardKey, instrument_id: int, publisher_id: int, symbol: str | None = None
    ) -> Instrument | None:
        """A book of this instrument exists: remember its publisher. The instrument if it is new or was renamed."""
        known = self.by_id.get((key.feed, instrument_id))
        feed = self.feeds[key.feed]
        if known is None:
            fresh = Instrument(key.feed, feed.dataset, key.shard, instrument_id, symbol or str(instrument_id))
        else:
            fresh = replace(known, symbol=symbol or known.symbol)
        if publisher_id and publisher_id not in fresh.publishers:
            fresh = replace(fresh, publishers=tuple(sorted((*fresh.publishers, publisher_id))))
        if fresh == known:
            return None
        self.by_id[key.feed, instrument_id] = fresh
        self._by_symbol = None
        return fresh if known is None or known.symbol != fresh.symbol else None

    def _index(self) -> dict[str, list[Instrument]]:
        if self._by_symbol is None:
            self._by_symbol = {}
            for instrument in self.by_id.values():
                self._by_symbol.setdefault(instrument.symbol, []).append(instrument)
        return self._by_symbol

    def all(self) -> list[Instrument]:
        """Every instrument, by (symbol, feed, id)."""
        return sorted(self.by_id.values(), key=lambda i: (i.symbol, i.feed, i.instrument_id))

    def symbols(self) -> list[Instrument]:
        """The instrument of every symbol (see `resolve`), by (symbol, feed)."""
        found = [i for ids in self._index().values() for i in self._newest(ids)]
        return sorted(found, key=lambda i: (i.symbol, i.feed))

    def _newest(self, found: Iterable[Instrument]) -> Iterable[Instrument]:
        """Of ids with one symbol, that of each feed whose book changed last."""
        newest: dict[str, Instrument] = {}
        for instrument in found:
            known = newest.get(instrument.feed)
            if known is None or self.changed(instrument) > self.changed(known):
                newest[instrument.feed] = instrument
        return newest.values()

    def other_ids(self, instrument: Instrument) -> list[int]:
        return sorted(i.instrument_id for i in self.namesakes(instrument))

    def namesakes(self, instrument: Instrument) -> list[Instrument]:
        """Other ids of the feed with its symbol: an id is of one day only, so a symbol may have another tomorrow."""
        found = self._index().get(instrument.symbol, ())
        return [i for i in found if i.feed == instrument.feed and i.instrument_id != instrument.instrument_id]

    def resolve(self, text: str) -> list[Instrument]:
        """What a client's symbol names: usually one, every match if the text is ambiguous, [] if unknown.

        A symbol is one instrument a feed: of all ids that had it, the one whose book changed last.
        """
        if text == ALL_SYMBOLS:
            return self.all()
        if found := self._index().get(text):
            return list(self._newest(found))
        dataset, colon, rest = text.partition(":")
        if colon:
            wanted: Iterable[Instrument] = self.resolve(rest) if rest and rest != ALL_SYMBOLS else self.all()
            name = dataset.lower()
            return [i for i in wanted if name in (i.dataset.lower(), i.feed)] if rest else []
        if text.isascii() and text.isdecimal() and len(text) <= 10:
            return [i for i in self.by_id.values() if i.instrument_id == int(text)]
        return []
