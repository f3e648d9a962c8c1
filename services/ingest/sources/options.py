"""What a user can say about sources; `mbo ingest`, `mbo up` and the tests make one of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from shared.dbn.metadata import STYPES
from shared.errors import UsageError

SIM, LIVE, HISTORICAL = "sim", "live", "historical"
KINDS = (SIM, LIVE, HISTORICAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Times in ns since the epoch, by ts_recv; `end` is exclusive.

    Live: `start` asks for a replay from there (ts_event) instead of a snapshot, `end` ends the session.
    Empty and None: the default of the source.
    """

    source: tuple[str, ...] = (SIM,)  # paths, folders, globs; or one of KINDS
    symbols: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    loop: bool = False  # files: again from the beginning for ever
    watch: bool = False  # a folder: take new files as they come
    feed: str = ""  # its name, for metrics; empty: the dataset
    data: Path = field(
        default_factory=lambda: Path("mbo-data")
    )  # journals, caches, the order of watched files
    # sim
    instruments: int = 8
    messages: int | None = None  # None: without end
    seed: int = 1
    sim_rate: float = 3000.0  # messages a second of market time, all instruments together
    # live and historical
    dataset: str = ""
    stype_in: str = "raw_symbol"
    snapshot: bool = True  # live: begin with the books as they are
    status: bool = False  # live: subscribe to schema status too
    key_file: Path | None = None  # instead of DATABENTO_API_KEY
    gateway: str = ""  # host:port instead of Databento's own
    journal_bytes: int = 4 * 1024**3  # live: local journal is kept to this size
    historical_url: str = ""  # instead of Databento's own
    batch: bool = False  # historical: batch files instead of one stream
    yes: bool = False  # historical: go on without asking when the cost is known

    def __post_init__(self) -> None:
        if self.stype_in not in STYPES:
            raise UsageError(f"--stype-in {self.stype_in}: one of {', '.join(STYPES)}")
