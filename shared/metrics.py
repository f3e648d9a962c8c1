"""The catalogue of every metric, as data: dashboards, alert rules, README and tests are checked against it.

Names: `mbo_<service>_<noun>_<unit>`, counters end in `_total`, times in seconds, sizes in bytes. Labels are small sets.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# At most 2 × apart from 20 µs to 100 ms, so that an interpolated p50, p99 or p99.9 is within a third of the true one at
# the scale of a stage (a batch in the engine: tens of µs) as well as of a bad day; every latency budget of the design
# (1.5, 2.5, 5, 10 and 15 ms) and the objective (100 ms) is a bound, so the share within it is exact.
LATENCY_S = (
    20e-6, 35e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6, 300e-6, 400e-6, 500e-6, 700e-6,
    0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip


class Metric(NamedTuple):
    """`values`: every value a label can have, where that is known before it happens (see `zero`)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = LATENCY_S
    values: Mapping[str, tuple[str, ...]] = MappingProxyType({})


COMMON: tuple[Metric, ...] = (
    Metric("mbo_service_up", "gauge", "1 while the service is ready", ("role",)),
    Metric(
        "mbo_service_errors_total",
        "counter",
        "Errors by kind; every one is also in the log",
        ("role", "kind"),
        values={
            "kind": (
                "BrokerLost",
                "BrokerFull",
                "Fenced",
                "Diverged",
                "Gap",
                "WireError",
                "StoreError",
                "internal",
            )
        },
    ),
    Metric(
        "mbo_service_restarts_total",
        "counter",
        "Times the service dropped its state and started again from the broker",
        ("role", "reason"),
        values={"reason": ("BrokerLost", "BrokerFull", "Fenced", "Diverged", "Gap")},
    ),
    Metric(
        "mbo_broker_reconnects_total", "counter", "Connections to the broker made after a loss", ("role",)
    ),
    Metric(
        "mbo_broker_call_seconds",
        "histogram",
        "Round trips to the broker, by what they are for",
        ("role", "call"),
    ),
)

INGEST: tuple[Metric, ...] = (
    Metric("mbo_ingest_records_total", "counter", "Records acknowledged by the broker", ("feed",)),
    Metric(
        "mbo_ingest_controls_total",
        "counter",
        "Control entries acknowledged by the broker",
        ("feed", "type"),
        values={"type": ("begin", "mapping", "definition", "status", "gap", "recovered", "day", "end")},
    ),
    Metric("mbo_ingest_bytes_total", "counter", "Bytes of entries acknowledged by the broker", ("feed",)),
    Metric("mbo_ingest_flushes_total", "counter", "Flushes acknowledged", ("feed",)),
    Metric(
        "mbo_ingest_lag_seconds",
        "gauge",
        "From the due time of the oldest record of the last flush to its acknowledgement; 0 while idle",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_flush_seconds",
        "histogram",
        "From sending a flush to taking its acknowledgement, with the floor",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_wait_seconds",
        "histogram",
        "From the due time of a batch's oldest record to its flush",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_backlog_records",
        "gauge",
        "Ordinals between the last record and the slowest required reader",
        ("feed",),
    ),
    Metric("mbo_ingest_backlog_limit_records", "gauge", "Backlog at which a replay is held back", ("feed",)),
    Metric(
        "mbo_ingest_reader_lag_records",
        "gauge",
        "Ordinals between the last record and what a required reader (book, persist) has committed, alive or not",
        ("feed", "reader"),
    ),
    Metric(
        "mbo_ingest_held_back_seconds_total",
        "counter",
        "Time a replay was held back by backlog or memory",
        ("feed", "why"),
        values={"why": ("backlog", "memory")},
    ),
    Metric(
        "mbo_ingest_resent_records_total",
        "counter",
        "Records sent again after the broker lost them",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_fed_back_records_total",
        "counter",
        "Records and controls given to persist again from the live journal, past the memory mark",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_feed_back_records",
        "gauge",
        "Records in `:back` that persist has not stored yet",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_journaled_items",
        "gauge",
        "Items that wait in the live journal alone because the broker is nearly full",
        ("feed",),
    ),
    Metric("mbo_ingest_gaps_total", "counter", "Gaps in the source that could not be filled", ("feed",)),
    Metric(
        "mbo_ingest_fenced_total",
        "counter",
        "Appends refused because another ingest owns the feed",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_trim_floor_ordinals", "gauge", "Ordinal below which `:in` is trimmed", ("feed", "shard")
    ),
    Metric(
        "mbo_ingest_broker_memory_bytes",
        "gauge",
        "used_memory of the broker (of a cluster's fullest node)",
        (),
    ),
    Metric("mbo_ingest_broker_memory_limit_bytes", "gauge", "maxmemory of the same node; 0 is none", ()),
    Metric(
        "mbo_ingest_broker_memory_mark_bytes",
        "gauge",
        "Memory at which replays are held back and a live feed's floor ignores persist; 0 is none",
        (),
    ),
    Metric("mbo_ingest_position_items", "gauge", "Position in the source", ("feed",)),
    Metric("mbo_ingest_session_number", "gauge", "Session being written", ("feed",)),
    Metric("mbo_ingest_live_up", "gauge", "1 while the live gateway lets us in", ("feed",)),
    Metric(
        "mbo_ingest_live_reconnects_total",
        "counter",
        "Live connections lost or not made, by why; each is followed by another try",
        ("feed", "why"),
        values={"why": ("closed", "broken", "unreachable", "refused", "silent", "damaged", "snapshot")},
    ),
    Metric("mbo_ingest_live_errors_total", "counter", "Error messages of the gateway", ("feed", "code")),
    Metric("mbo_ingest_live_heartbeats_total", "counter", "Heartbeats of the gateway", ("feed",)),
    Metric(
        "mbo_ingest_live_slow_warnings_total",
        "counter",
        "Warnings of the gateway that we read too slowly",
        ("feed",),
    ),
    Metric("mbo_ingest_live_silences_total", "counter", "Jumps of ts_recv by more than a minute", ("feed",)),
    Metric(
        "mbo_ingest_live_replayed_records_total",
        "counter",
        "Records a reconnect brought again and we had",
        ("feed",),
    ),
    Metric(
        "mbo_ingest_live_passed_over_records_total",
        "counter",
        "Records of other schemas than mbo, by type",
        ("feed", "type"),
    ),
    Metric("mbo_ingest_live_pending_bytes", "gauge", "Received and not yet taken", ("feed",)),
)

BOOK: tuple[Metric, ...] = (
    Metric("mbo_book_records_total", "counter", "Records applied and committed", ("feed", "shard")),
    Metric("mbo_book_commits_total", "counter", "Commits accepted", ("feed",)),
    Metric("mbo_book_bytes_total", "counter", "Bytes of `:out` entries sent to be committed", ("feed",)),
    Metric("mbo_book_apply_seconds", "histogram", "Engine time of a batch", ("feed",)),
    Metric(
        "mbo_book_commit_seconds", "histogram", "A commit round from sending to acknowledgement", ("feed",)
    ),
    Metric("mbo_book_ingest_seconds", "histogram", "From ts_ingest to the commit of a batch", ("feed",)),
    Metric(
        "mbo_book_lag_records",
        "gauge",
        "Ordinals between the end of `:in` and the offset, owned shards",
        ("feed", "shard"),
    ),
    Metric(
        "mbo_book_lag_seconds",
        "gauge",
        "Age of the oldest record not yet committed, owned shards",
        ("feed", "shard"),
    ),
    Metric("mbo_book_shards_owned", "gauge", "Shards this worker owns", ("feed",)),
    Metric(
        "mbo_book_takeovers_total",
        "counter",
        "Shards taken: free ones, and expired ones of an owner that died or stalled",
        ("feed", "how"),
        values={"how": ("free", "expired")},
    ),
    Metric(
        "mbo_book_epochs_lost_total",
        "counter",
        "Shards lost to another owner before they were released",
        ("feed",),
    ),
    Metric(
        "mbo_book_images_total",
        "counter",
        "Book images by result",
        ("feed", "result"),
        values={"result": ("written", "failed", "refused")},
    ),
    Metric("mbo_book_image_bytes", "gauge", "Compressed size of the newest image", ("feed", "shard")),
    Metric("mbo_book_image_age_seconds", "gauge", "Age of the newest image", ("feed", "shard")),
    Metric("mbo_book_anomalies_total", "counter", "Odd records by kind; never fatal", ("feed", "kind")),
    Metric("mbo_book_stale_shards", "gauge", "Owned shards whose books may be wrong", ("feed",)),
    Metric(
        "mbo_book_recoveries_total",
        "counter",
        "Recoveries by where the state came from",
        ("feed", "source"),
        values={"source": ("begin", "image", "stream", "history", "none")},
    ),
)

GATEWAY: tuple[Metric, ...] = (
    Metric(
        "mbo_gateway_entries_total",
        "counter",
        "Entries folded",
        ("feed", "stream"),
        values={"stream": ("in", "out")},
    ),
    Metric("mbo_gateway_records_total", "counter", "Ordinals folded", ("feed",)),
    Metric("mbo_gateway_drain_seconds", "histogram", "A drain: fold, encode, write to all clients"),
    Metric("mbo_gateway_book_seconds", "histogram", "From the commit of an entry to its last write"),
    Metric(
        "mbo_gateway_latency_seconds",
        "histogram",
        "From the due time of the oldest record of a drain to its last write",
    ),
    Metric(
        "mbo_gateway_lag_records",
        "gauge",
        "Ordinals between the end of `:out` and what is folded",
        ("feed", "shard"),
    ),
    Metric(
        "mbo_gateway_lag_seconds",
        "gauge",
        "Age of what is folded of the slowest shard that has more to fold",
        ("feed",),
    ),
    Metric("mbo_gateway_data_age_seconds", "gauge", "Time since the last entry of a feed", ("feed",)),
    Metric("mbo_gateway_stale_shards", "gauge", "Shards whose books may be wrong", ("feed",)),
    Metric(
        "mbo_gateway_reloads_total",
        "counter",
        "Shards loaded anew from an image, by why",
        ("feed", "why"),
        values={"why": ("gap", "orders")},
    ),
    Metric("mbo_gateway_clients", "gauge", "Open streams"),
    Metric("mbo_gateway_limit_clients", "gauge", "Streams at which more are turned away"),
    Metric("mbo_gateway_topics", "gauge", "Views kept"),
    Metric("mbo_gateway_connections", "gauge", "Open connections of any kind"),
    Metric("mbo_gateway_limit_connections", "gauge", "Connections at which more are refused"),
    Metric("mbo_gateway_writes_total", "counter", "Blocks written to clients"),
    Metric("mbo_gateway_sent_bytes_total", "counter", "Bytes written to streams"),
    Metric("mbo_gateway_lags_total", "counter", "Times a client fell behind its budget"),
    Metric(
        "mbo_gateway_conflated_total",
        "counter",
        "client: slow clients that went on with new state; gateway: BBO changes left out while it was behind itself",
        ("why",),
        values={"why": ("client", "gateway")},
    ),
    Metric(
        "mbo_gateway_byes_total",
        "counter",
        "Streams closed by us, by reason",
        ("reason",),
        values={
            "reason": (
                "ended",
                "drain",
                "slow",
                "max_age",
                "expired",
                "revoked",
                "overload",
                "limit",
                "starting",
                "remapped",
                "replayed",
                "failed",
            )
        },
    ),
    Metric(
        "mbo_gateway_resumes_total",
        "counter",
        "Streams that came with an id, by how they went on",
        ("how",),
        values={"how": ("exact", "partly", "anew")},
    ),
    Metric("mbo_gateway_requests_total", "counter", "REST answers, by route and status", ("route", "status")),
    Metric("mbo_gateway_request_seconds", "histogram", "REST answers, by route", ("route",)),
    Metric(
        "mbo_gateway_refused_total",
        "counter",
        "Requests and connections refused, by why",
        ("why",),
        values={
            "why": (
                "slow-request",
                "connections",
                "head",
                "body",
                "connect-rate",
                "streams-per-ip",
                "streams-per-key",
                "recalls",
            )
        },
    ),
    Metric("mbo_gateway_recalls", "gauge", "Replays, exports and history requests running"),
)

PERSIST: tuple[Metric, ...] = (
    Metric("mbo_persist_records_total", "counter", "Records committed to the store", ("feed",)),
    Metric("mbo_persist_commits_total", "counter", "Transactions committed", ("feed",)),
    Metric(
        "mbo_persist_commit_seconds",
        "histogram",
        "A transaction from its begin to the disk's word",
        ("feed",),
    ),
    Metric(
        "mbo_persist_apply_seconds_total", "counter", "Time spent reading, deriving and applying", ("feed",)
    ),
    Metric(
        "mbo_persist_lag_seconds",
        "gauge",
        "Age, by ts_ingest, of the oldest record not yet committed",
        ("feed",),
    ),
    Metric("mbo_persist_store_bytes", "gauge", "Size of the store file", ("feed",)),
    Metric("mbo_persist_wal_bytes", "gauge", "Size of the write-ahead log", ("feed",)),
    Metric("mbo_persist_disk_free_bytes", "gauge", "Free bytes of the store's file system", ()),
    Metric("mbo_persist_gaps_total", "counter", "Gaps recorded because nothing could fill them", ("feed",)),
    Metric("mbo_persist_removed_records_total", "counter", "Records removed by retention", ("feed",)),
    Metric(
        "mbo_persist_store_failed",
        "gauge",
        "1 while a feed cannot be stored (disk full, file damaged)",
        ("feed", "why"),
        values={"why": ("full", "corrupt", "disk", "locked", "unwritable")},
    ),
)

METRICS: tuple[Metric, ...] = (*COMMON, *INGEST, *BOOK, *GATEWAY, *PERSIST)

registry = CollectorRegistry(auto_describe=True)


@cache
def get(name: str) -> Any:
    """The Prometheus object of a catalogue name (registered on first use); KeyError if it is not in the catalogue."""
    row = {metric.name: metric for metric in METRICS}[name]
    if row.kind == "histogram":
        return Histogram(row.name, row.help, row.labels, registry=registry, buckets=row.buckets)
    return (Counter if row.kind == "counter" else Gauge)(row.name, row.help, row.labels, registry=registry)


def zero(prefix: str, **known: str | tuple[str, ...]) -> None:
    """Export every counter of this prefix whose labels are known, before the first event: a series that appears with
    its first event has no increase, and an alert on it would stay silent. Gauges too that name their `values`: 0 is
    what they are until something happens."""
    for row in METRICS:
        counts = row.kind == "counter" or (row.kind == "gauge" and row.values)
        if not counts or not row.name.startswith(prefix):
            continue
        values = {**row.values, **{name: (v,) if isinstance(v, str) else v for name, v in known.items()}}
        if all(label in values for label in row.labels):
            for chosen in itertools.product(*(values[label] for label in row.labels)):
                get(row.name).labels(*chosen) if chosen else get(row.name)


def render() -> bytes:
    """The text exposition of everything used in this process."""
    return generate_latest(registry)
