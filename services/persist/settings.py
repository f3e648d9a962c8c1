"""Settings of `mbo persist`."""

from __future__ import annotations

from dataclasses import dataclass

from shared.settings import ServiceSettings, option


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistSettings(ServiceSettings):
    """What the persister and its reader process take."""

    data: str = option("mbo-data", "data directory: files are DATA/store/<feed>.sqlite")
    feeds: tuple[str, ...] = option((), "feeds to record; none named: every feed of the broker")
    commit_ms: int = option(500, "longest time a record waits for its commit")
    commit_records: int = option(500_000, "records read before a commit is made at once")
    poll_ms: int = option(20, "pause between two looks at quiet streams")
    image_records: int = option(1_000_000, "most records of a shard between two book images")
    image_s: int = option(600, "most seconds of market time between two images of a shard that had records")
    gap_wait_s: float = option(
        60.0, "how long a gap may wait for the journal's feed-back before it is recorded"
    )
    keep_days: float = option(0.0, "remove what is older than this many days of market time; 0 keeps all")
    keep_gb: float = option(0.0, "remove the oldest once a feed's file is larger than this; 0 keeps all")
    nice: int = option(10, "lower the process's priority by this much: recording is never in the way of live")
    history: bool = option(True, "run the history reader process")
    history_host: str = option("127.0.0.1", "address the history API binds to and advertises")
    history_url: str = option("", "URL to advertise instead, if the bound address is not reachable as it is")
    history_port: int = option(0, "port of the history API; 0 takes a free one")
