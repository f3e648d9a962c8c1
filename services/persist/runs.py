"""Runs: the recorded sessions of one file. A run is the broker's session, told apart by when and from what it began.

A broker that lost everything counts sessions from 1 again. Files and simulated markets give the same records at the
same ordinals again, so their run goes on where it stopped; of anything else the session is a run of its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.orderbook.engine import POLICIES

REPEATING = ("file", "historical", "sim")  # kinds of source that give the same items whenever they are opened


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded session."""

    run: int
    session: int
    shards: int
    policy: str
    identity: str
    began: int  # ns, `ts` of its begin control
    spec: str  # JSON

    @property
    def marker(self) -> str:
        """What stands beside an offset in the broker: which run the offset speaks of."""
        return f"{self.session}:{self.began}:{self.identity}"

    def began_with(self, control: Mapping[str, Any]) -> bool:
        """Whether that begin control is its own."""
        if control.get("identity") != self.identity:
            return False
        again = _repeats(self.spec) and (control.get("policy"), _spec(control)) == (self.policy, self.spec)
        return control.get("ts") == self.began or again


def newest_run(db: sqlite3.Connection, shard: int) -> Run | None:
    """The newest run of which this shard has something."""
    row = db.execute(
        "SELECT r.run, session, shards, policy, identity, began, spec FROM run r"
        " JOIN offset o ON o.run=r.run AND o.shard=? ORDER BY r.run DESC LIMIT 1", (shard,),
    ).fetchone()  # fmt: skip
    return Run(*row) if row else None


def begin_run(db: sqlite3.Connection, session: int, shards: int, control: Mapping[str, Any]) -> Run:
    """The run that another shard has begun for this session, or a new row."""
    identity, began = str(control.get("identity", "")), int(control.get("ts", 0))
    policy = str(control.get("policy", "uncross"))
    if policy not in POLICIES:
        policy = "uncross"
    spec = _spec(control)
    row = db.execute(
        "SELECT run, began FROM run WHERE session=? AND identity=?"
        " AND (began=? OR ?=0 OR ? AND shards=? AND policy=? AND spec=?) ORDER BY run DESC LIMIT 1",
        (session, identity, began, began, _repeats(spec), shards, policy, spec),
    ).fetchone()
    if row is not None:
        return Run(row[0], session, shards, policy, identity, row[1], spec)
    newest = db.execute("SELECT coalesce(max(run), 0) FROM run").fetchone()[0]
    number = session if session > newest else newest + 1
    db.execute(
        "INSERT INTO run VALUES (?,?,?,?,?,?,?,?,0)",
        (number, session, shards, str(control.get("dataset", "")), policy, identity,
         spec, began),
    )  # fmt: skip
    return Run(number, session, shards, policy, identity, began, spec)


def _spec(control: Mapping[str, Any]) -> str:
    spec = control.get("spec", {})
    return spec if isinstance(spec, str) else json.dumps(spec)


def _repeats(spec: str) -> bool:
    return json.loads(spec).get("kind") in REPEATING
