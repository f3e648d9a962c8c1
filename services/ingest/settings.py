"""Settings of ingest."""

from __future__ import annotations

import dataclasses
import os
import secrets
from pathlib import Path

from services.ingest.sources.options import SourceOptions
from shared.settings import ServiceSettings, option
from shared.times import Instant


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings(ServiceSettings):
    source: tuple[str, ...] = option(("sim",), "DBN files or folders, or one of: sim, live, historical")
    feed: str = option("", "name of the feed; default: the dataset")
    symbols: tuple[str, ...] = option((), "only these symbols")
    start: Instant | None = option(
        None, "only records from this ts_recv on, ns or RFC 3339; live: replay from there"
    )
    end: Instant | None = option(None, "only records before this ts_recv, the same; live: ends there")
    loop: bool = option(False, "files: again from the beginning for ever")
    watch: bool = option(False, "a folder: take new files as they come")
    instruments: int = option(8, "sim: instruments")
    messages: int | None = option(None, "sim: records in all; empty is without end")
    seed: int = option(1, "sim: the same seed gives the same market")
    sim_rate: float = option(3000.0, "sim: records a second of market time, all instruments together")
    dataset: str = option("", "live, historical: dataset code such as GLBX.MDP3")
    stype_in: str = option("raw_symbol", "live, historical: symbology of --symbols")
    snapshot: bool = option(True, "live: begin with the books as they are")
    status: bool = option(False, "live: halts and auctions too, of a dataset that has schema status")
    key_file: Path | None = option(None, "file with the Databento API key, instead of DATABENTO_API_KEY")
    gateway: str = option("", "live: host:port instead of Databento's own gateway")
    journal_bytes: int = option(4 * 1024**3, "live: the local journal is kept to this size")
    historical_url: str = option("", "historical: address instead of Databento's own")
    batch: bool = option(False, "historical: batch files instead of one stream")
    yes: bool = option(False, "historical: go on without asking when the cost is known")
    shards: int = option(4, "shards of a new feed; fixed for its life")
    policy: str = option(
        "uncross", "what is published for crossed books", choices=("uncross", "execute", "raw")
    )
    speed: str = option(
        "max", "replay by market time: 1 is real time, 10 ten times faster, max as fast as it goes"
    )
    rate: float = option(0.0, "records a second instead of market time; 0 is off")
    readers: tuple[str, ...] = option(
        ("book", "persist"), "required readers: trimming and back-pressure wait for them"
    )
    entry_records: int = option(8000, "most records in one stream entry")
    floor_ms: float = option(1.0, "least time between two flushes of a feed")
    busy_floor_ms: float = option(1.0, "the same while records flow without a pause; at most 5")
    max_backlog: int = option(
        2_000_000, "a replay is held back at so many records not yet taken by the slowest reader"
    )
    memory_share: float = option(
        0.6,
        "a replay is held back at this share of the broker's maxmemory; live is trimmed past a slow persist",
    )
    live_memory_share: float = option(
        0.8, "at this share live goes to the journal only, until the broker has room again"
    )
    lease_ms: int = option(3000, "time a feed stays owned without a heartbeat")
    owner: str = option("", "identity for the lease; default: host, pid and a random part")
    exit_at_end: bool = option(
        False, "end the process when every source has ended (else it stays to trim and serve)"
    )
    data: Path = option(Path("mbo-data"), "folder for journals and cached downloads")

    def source_options(self) -> SourceOptions:
        """The part that speaks of sources."""
        return SourceOptions(
            **{each.name: getattr(self, each.name) for each in dataclasses.fields(SourceOptions)}
        )

    def owner_name(self) -> str:
        return self.owner or f"ingest-{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"
