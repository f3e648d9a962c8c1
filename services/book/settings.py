"""Settings of a book worker."""

from __future__ import annotations

import dataclasses
import os
import secrets

from shared.settings import ServiceSettings, option


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BookSettings(ServiceSettings):
    feeds: tuple[str, ...] = option((), "feeds to work on; default all")
    static_shards: str = option("", "fixed shards such as 0-7 or 0,3 instead of a fair share of all")
    lease_ms: int = option(2000, "time a shard stays owned without a heartbeat")
    poll_ms: int = option(200, "how often membership and leases are looked at")
    image_s: float = option(10.0, "most time between two images of a shard that changes")
    image_records: int = option(
        500_000, "most records of a shard between two images: `:in` is kept back to the older one"
    )
    block_ms: int = option(50, "longest wait for input in one read")
    read_entries: int = option(8, "most entries of a shard in one read")
    batch_records: int = option(8192, "most records applied and committed as one output entry")
    owner: str = option("", "identity for leases; default: host, pid and a random part")
    engine: str = option("numba", "order-book engine", choices=("numba", "reference"))

    def owner_name(self) -> str:
        return self.owner or f"book-{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"

    def fixed(self) -> frozenset[int] | None:
        """The static assignment, or None; ValueError on bad text."""
        if not self.static_shards:
            return None
        found: set[int] = set()
        for part in self.static_shards.split(","):
            low, _, high = part.partition("-")
            found.update(range(int(low), int(high or low) + 1))
        return frozenset(found)
