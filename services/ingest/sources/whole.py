"""When books are whole again after a gap that no snapshot was asked for: when each has begun anew.

A book begins anew with an R: a venue's clear, the first record of a daily snapshot, or Databento's own at 00:00 UTC
where there are no snapshots. Until the last of them has, some book may hold orders that are gone, or lack some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shared.records import Rows
from shared.units import ACTION_CLEAR, F_SNAPSHOT

Book = tuple[int, int]  # publisher_id, instrument_id
_ID = 0xFFFFFFFF  # the instrument's part of a key


class Waiting:
    """Books that a gap has made wrong. Their staleness is one flag, so all are waited for."""

    def __init__(self, books: Iterable[Book] | None = None, instruments: Iterable[int] = ()) -> None:
        """`books`, and all books of `instruments`, have to begin anew. With neither, all have to: those of every name
        (see `expect`) and each that appears without an R."""
        self._wrong = {_key(*book) for book in books or ()}
        self._unseen = set(instruments)  # whose books are not known by publisher
        named = self._unseen | {key & _ID for key in self._wrong}
        self._only = (
            frozenset(named) if books is not None or named else None
        )  # books of other instruments are whole
        self._awaits_names = self._only is None
        self._begun: set[int] = set()
        self._seen: set[int] = set()  # instruments

    @property
    def is_over(self) -> bool:
        return not self._wrong and not self._unseen

    def add(self, other: Waiting) -> None:
        """Another gap before the first was over."""
        self._wrong |= other._wrong
        self._unseen |= other._unseen
        if other._only is None:
            self._only, self._awaits_names, self._begun, self._seen = None, True, set(), set()
        elif self._only is not None:
            self._only |= other._only
        self._begun -= other._wrong

    def expect(self, instrument_id: int) -> None:
        """A name has been given: there may be books of it."""
        if self._awaits_names and instrument_id not in self._seen:
            self._unseen.add(instrument_id)

    def forget(self, instrument_id: int) -> None:
        """An instrument that has expired, or is not taken: nothing more comes of it."""
        self._unseen.discard(instrument_id)
        self._wrong = {key for key in self._wrong if key & _ID != instrument_id}

    def nobody_else(self) -> None:
        """Past a midnight: of what was not seen by then there was no book."""
        self._unseen.clear()
        self._awaits_names = False

    def take(self, records: Rows) -> int:
        """Follow records; the index of the first after which none is waited for and which is not itself of a snapshot,
        or -1. What comes after it is not looked at."""
        keys = records["publisher_id"].astype(np.uint64) << np.uint64(32) | records["instrument_id"]
        clears = records["action"] == ACTION_CLEAR
        plain = np.flatnonzero(~clears & (records["flags"] & F_SNAPSHOT == 0))
        changes = sorted({*_firsts(keys, np.arange(len(keys))), *_firsts(keys, np.flatnonzero(clears))})
        since = 0
        for index in changes:
            if self.is_over and (found := _within(plain, since, index)) >= 0:
                return found
            key, is_clear = int(keys[index]), bool(clears[index])
            self._unseen.discard(key & _ID)
            self._seen.add(key & _ID)
            if is_clear:
                self._wrong.discard(key)
                self._begun.add(key)
            elif key not in self._begun and self._concerns(key):
                self._wrong.add(key)
            since = index
        return _within(plain, since, len(keys)) if self.is_over else -1

    def _concerns(self, key: int) -> bool:
        return self._only is None or key & _ID in self._only

    def facts(self) -> dict[str, Any]:
        """JSON-able: what `restored` takes."""
        return {
            "wrong": sorted(self._wrong), "unseen": sorted(self._unseen), "begun": sorted(self._begun),
            "seen": sorted(self._seen), "only": None if self._only is None else sorted(self._only),
            "awaits_names": self._awaits_names,
        }  # fmt: skip

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> Waiting:
        found = cls()
        found._wrong, found._unseen = set(facts["wrong"]), set(facts["unseen"])
        found._begun, found._seen = set(facts["begun"]), set(facts["seen"])
        found._only = None if facts["only"] is None else frozenset(facts["only"])
        found._awaits_names = facts["awaits_names"]
        return found


def _key(publisher: int, instrument: int) -> int:
    return publisher << 32 | instrument


def _firsts(keys: Any, at: Any) -> list[int]:
    """Of the records at these places, the first of each book."""
    return at[np.unique(keys[at], return_index=True)[1]].tolist()  # type: ignore[no-any-return]


def _within(places: Any, first: int, end: int) -> int:
    """The first place in [first, end), or -1."""
    at = int(np.searchsorted(places, first))
    return int(places[at]) if at < len(places) and places[at] < end else -1
