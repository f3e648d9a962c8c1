"""The Grafana dashboards as code: `python -m tests.deploy.generate` writes dashboards/*.json from this file.

A panel is (title, unit, queries); a query is (PromQL, legend). A test checks every metric against shared/metrics.py.
"""

from __future__ import annotations

import re
from typing import Any

Query = tuple[str, str]
Panel = tuple[str, str, list[Query]]
Row = tuple[str, list[Panel]]

DATASOURCE = {"type": "prometheus", "uid": "mbo-prometheus"}
COLUMNS = 24
HEIGHT = 8
FEED = '{feed=~"$feed"}'


def quantiles(metric: str, by: str = "", match: str = "") -> list[Query]:
    """p50, p99 and p99.9 of a histogram, split by the labels `by`."""
    labels = f"le, {by}" if by else "le"
    name = f" {{{{{by}}}}}" if by else ""
    rates = f"sum by ({labels}) (rate({metric}_bucket{match}[$__rate_interval]))"
    return [
        (f"histogram_quantile({q}, {rates})", f"p{text}{name}")
        for q, text in (("0.5", "50"), ("0.99", "99"), ("0.999", "99.9"))
    ]  # fmt: skip


def rate(metric: str, by: str, match: str = "") -> Query:
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return f"sum by ({by}) (rate({metric}{match}[$__rate_interval]))", legend


def last(metric: str, by: str, match: str = "", how: str = "max") -> Query:
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return f"{how} by ({by}) ({metric}{match})", legend


OVERVIEW: list[Row] = [
    (
        "What clients get",
        [
            ("Delivered within 100 ms (5 min)", "percentunit", [("1 - mbo:delivery_late:ratio_rate5m", "in time")]),
            ("Open streams", "short", [last("mbo_gateway_clients", "instance")]),
            ("Age of the newest data", "s", [last("mbo_gateway_data_age_seconds", "feed", FEED, "min")]),
            ("Latency, due time to last write", "s", quantiles("mbo_gateway_latency_seconds")),
        ],
    ),
    (
        "Latency by stage",
        [
            ("Ingest: due time to flush", "s", quantiles("mbo_ingest_wait_seconds", "", FEED)),
            ("Ingest: flush to acknowledgement", "s", quantiles("mbo_ingest_flush_seconds", "", FEED)),
            ("Book: ingest to commit", "s", quantiles("mbo_book_ingest_seconds", "", FEED)),
            ("Gateway: commit to last write", "s", quantiles("mbo_gateway_book_seconds")),
        ],
    ),
    (
        "Flow",
        [
            ("Records a second, by stage", "short", [
                (f"sum(rate(mbo_ingest_records_total{FEED}[$__rate_interval]))", "ingest"),
                (f"sum(rate(mbo_book_records_total{FEED}[$__rate_interval]))", "book"),
                (f"sum(rate(mbo_persist_records_total{FEED}[$__rate_interval]))", "persist"),
                (f"sum(rate(mbo_gateway_records_total{FEED}[$__rate_interval]))", "gateway, all together"),
            ]),
            ("Behind, records", "short", [
                last("mbo_ingest_reader_lag_records", "reader", FEED, "sum"),
                (f"max(sum by (instance) (mbo_gateway_lag_records{FEED}))", "slowest gateway"),
            ]),
            ("Behind, seconds", "s", [
                (f"max(mbo_ingest_lag_seconds{FEED})", "ingest"),
                (f"max(mbo_book_lag_seconds{FEED})", "book"),
                (f"max(mbo_persist_lag_seconds{FEED})", "persist"),
                (f"max(mbo_gateway_lag_seconds{FEED})", "slowest gateway"),
            ]),
        ],
    ),
    (
        "Health",
        [
            ("Ready processes", "short", [("sum by (role) (mbo_service_up)", "{{role}}")]),
            ("Stale shards", "short", [last("mbo_book_stale_shards", "feed", FEED, "sum")]),
            ("Errors a second", "short", [rate("mbo_service_errors_total", "role, kind")]),
            ("Broker memory", "percentunit", [
                ("mbo_ingest_broker_memory_bytes / (mbo_ingest_broker_memory_limit_bytes > 0)", "used of maxmemory"),
            ]),
        ],
    ),
]  # fmt: skip

INGEST: list[Row] = [
    (
        "Flow",
        [
            ("Records a second", "short", [rate("mbo_ingest_records_total", "feed", FEED)]),
            ("Bytes a second", "Bps", [rate("mbo_ingest_bytes_total", "feed", FEED)]),
            ("Flushes a second", "short", [rate("mbo_ingest_flushes_total", "feed", FEED)]),
            ("Records a flush", "short", [(
                f"sum by (feed) (rate(mbo_ingest_records_total{FEED}[$__rate_interval]))"
                f" / sum by (feed) (rate(mbo_ingest_flushes_total{FEED}[$__rate_interval]))", "{{feed}}",
            )]),
        ],
    ),
    (
        "Latency and back-pressure",
        [
            ("Due time to flush", "s", quantiles("mbo_ingest_wait_seconds", "feed", FEED)),
            ("Flush to acknowledgement", "s", quantiles("mbo_ingest_flush_seconds", "feed", FEED)),
            ("Behind the source", "s", [last("mbo_ingest_lag_seconds", "feed", FEED)]),
            ("Readers behind, records", "short", [
                last("mbo_ingest_reader_lag_records", "feed, reader", FEED),
                (f"max by (feed) (mbo_ingest_backlog_records{FEED})", "{{feed}} slowest of each shard"),
                (f"max by (feed) (mbo_ingest_backlog_limit_records{FEED})", "{{feed}} a replay is held back"),
            ]),
            ("Held back", "percentunit", [rate("mbo_ingest_held_back_seconds_total", "feed, why", FEED)]),
        ],
    ),
    (
        "Source and streams",
        [
            ("Session", "short", [last("mbo_ingest_session_number", "feed", FEED)]),
            ("Position in the source", "short", [last("mbo_ingest_position_items", "feed", FEED)]),
            ("Trim floor", "short", [last("mbo_ingest_trim_floor_ordinals", "feed, shard", FEED)]),
            ("Control entries a second", "short", [rate("mbo_ingest_controls_total", "feed, type", FEED)]),
            ("Live past the memory marks", "short", [
                (f"max by (feed) (mbo_ingest_journaled_items{FEED})", "in the journal alone {{feed}}"),
                (f"max by (feed) (mbo_ingest_feed_back_records{FEED})", "fed back, not yet stored {{feed}}"),
                rate("mbo_ingest_fed_back_records_total", "feed", FEED),
            ]),
            ("Gaps, resent, fenced (an hour)", "short", [
                (f"sum by (feed) (increase(mbo_ingest_gaps_total{FEED}[1h]))", "gaps {{feed}}"),
                (f"sum by (feed) (increase(mbo_ingest_resent_records_total{FEED}[1h]))", "resent {{feed}}"),
                (f"sum by (feed) (increase(mbo_ingest_fenced_total{FEED}[1h]))", "fenced {{feed}}"),
            ]),
        ],
    ),
    (
        "Databento Live",
        [
            ("Connected", "short", [last("mbo_ingest_live_up", "feed", FEED)]),
            ("Reconnects (an hour)", "short", [(
                f"sum by (feed, why) (increase(mbo_ingest_live_reconnects_total{FEED}[1h]))", "{{feed}} {{why}}",
            )]),
            ("Errors, slow warnings, silences (an hour)", "short", [
                (f"sum by (feed, code) (increase(mbo_ingest_live_errors_total{FEED}[1h]))", "{{feed}} {{code}}"),
                (f"sum by (feed) (increase(mbo_ingest_live_slow_warnings_total{FEED}[1h]))", "slow {{feed}}"),
                (f"sum by (feed) (increase(mbo_ingest_live_silences_total{FEED}[1h]))", "silent {{feed}}"),
            ]),
            ("Records replayed, of other schemas (a second)", "short", [
                rate("mbo_ingest_live_replayed_records_total", "feed", FEED),
                rate("mbo_ingest_live_passed_over_records_total", "feed, type", FEED),
            ]),
            ("Received and not taken", "bytes", [last("mbo_ingest_live_pending_bytes", "feed", FEED)]),
            ("Heartbeats a minute", "short", [(
                f"60 * sum by (feed) (rate(mbo_ingest_live_heartbeats_total{FEED}[$__rate_interval]))", "{{feed}}",
            )]),
        ],
    ),
    (
        "Broker",
        [
            ("Memory", "bytes", [
                ("mbo_ingest_broker_memory_bytes", "used"), ("mbo_ingest_broker_memory_limit_bytes", "maxmemory"),
                ("mbo_ingest_broker_memory_mark_bytes", "replays are held back"),
            ]),
            ("Round trips", "s", quantiles("mbo_broker_call_seconds", "call", '{role="ingest"}')),
            ("Reconnects a second", "short", [rate("mbo_broker_reconnects_total", "role")]),
        ],
    ),
]  # fmt: skip

BOOK: list[Row] = [
    (
        "Flow",
        [
            ("Records a second", "short", [rate("mbo_book_records_total", "instance", FEED)]),
            ("Records a second by shard", "short", [rate("mbo_book_records_total", "feed, shard", FEED)]),
            ("Commits a second", "short", [rate("mbo_book_commits_total", "feed", FEED)]),
            ("Bytes a second", "Bps", [rate("mbo_book_bytes_total", "feed", FEED)]),
        ],
    ),
    (
        "Latency",
        [
            ("Engine, a batch", "s", quantiles("mbo_book_apply_seconds", "", FEED)),
            ("Commit round", "s", quantiles("mbo_book_commit_seconds", "", FEED)),
            ("Ingest to commit", "s", quantiles("mbo_book_ingest_seconds", "", FEED)),
            ("Behind, records", "short", [last("mbo_book_lag_records", "feed, shard", FEED)]),
            ("Behind, seconds", "s", [last("mbo_book_lag_seconds", "feed, shard", FEED)]),
        ],
    ),
    (
        "Ownership",
        [
            ("Shards owned", "short", [last("mbo_book_shards_owned", "feed, instance", FEED)]),
            ("Shards taken (10 min)", "short", [
                (f"sum by (feed, how) (increase(mbo_book_takeovers_total{FEED}[10m]))", "{{feed}} {{how}}"),
            ]),
            ("Shards lost to another owner (10 min)", "short", [
                (f"sum by (feed) (increase(mbo_book_epochs_lost_total{FEED}[10m]))", "{{feed}}"),
            ]),
            ("Recoveries by source (10 min)", "short", [
                (f"sum by (feed, source) (increase(mbo_book_recoveries_total{FEED}[10m]))", "{{feed}} {{source}}"),
            ]),
        ],
    ),
    (
        "State",
        [
            ("Image age", "s", [last("mbo_book_image_age_seconds", "feed, shard", FEED)]),
            ("Image size", "bytes", [last("mbo_book_image_bytes", "feed, shard", FEED)]),
            ("Images by result", "short", [rate("mbo_book_images_total", "feed, result", FEED)]),
            ("Odd records a second", "short", [rate("mbo_book_anomalies_total", "feed, kind", FEED)]),
            ("Stale shards", "short", [last("mbo_book_stale_shards", "feed", FEED, "sum")]),
        ],
    ),
]  # fmt: skip

GATEWAY: list[Row] = [
    (
        "Clients",
        [
            ("Open streams", "short", [
                last("mbo_gateway_clients", "instance"), ("min(mbo_gateway_limit_clients)", "limit"),
            ]),
            ("Connections", "short", [
                last("mbo_gateway_connections", "instance"), ("min(mbo_gateway_limit_connections)", "limit"),
            ]),
            ("Views kept", "short", [last("mbo_gateway_topics", "instance")]),
            ("Streams closed by us, by reason (10 min)", "short", [
                ("sum by (reason) (increase(mbo_gateway_byes_total[10m]))", "{{reason}}"),
            ]),
            ("Streams resumed, by how (10 min)", "short", [
                ("sum by (how) (increase(mbo_gateway_resumes_total[10m]))", "{{how}}"),
            ]),
        ],
    ),
    (
        "Delivery",
        [
            ("Bytes a second", "Bps", [rate("mbo_gateway_sent_bytes_total", "instance")]),
            ("Writes a second", "short", [rate("mbo_gateway_writes_total", "instance")]),
            ("A drain: fold, encode, write", "s", quantiles("mbo_gateway_drain_seconds")),
            ("Commit to last write", "s", quantiles("mbo_gateway_book_seconds")),
            ("Due time to last write", "s", quantiles("mbo_gateway_latency_seconds")),
            ("Clients behind their budget a second", "short", [rate("mbo_gateway_lags_total", "instance")]),
            ("Conflated a second, by why", "short", [rate("mbo_gateway_conflated_total", "why")]),
        ],
    ),
    (
        "Books",
        [
            ("Records folded a second", "short", [rate("mbo_gateway_records_total", "feed, instance", FEED)]),
            ("Entries a second by stream", "short", [rate("mbo_gateway_entries_total", "feed, stream", FEED)]),
            ("Behind, records", "short", [last("mbo_gateway_lag_records", "instance", FEED, "sum")]),
            ("Behind, seconds", "s", [last("mbo_gateway_lag_seconds", "instance, feed", FEED)]),
            ("Age of the newest data", "s", [last("mbo_gateway_data_age_seconds", "feed, instance", FEED)]),
            ("Stale shards", "short", [last("mbo_gateway_stale_shards", "feed, instance", FEED)]),
            ("Shards loaded anew, by why (10 min)", "short", [
                (f"sum by (feed, why) (increase(mbo_gateway_reloads_total{FEED}[10m]))", "{{feed}} {{why}}"),
            ]),
        ],
    ),
    (
        "REST",
        [
            ("Requests a second", "short", [rate("mbo_gateway_requests_total", "route, status")]),
            ("Time to answer", "s", quantiles("mbo_gateway_request_seconds", "route")),
            ("Refused a second, by why", "short", [rate("mbo_gateway_refused_total", "why")]),
            ("Replays, exports, history running", "short", [last("mbo_gateway_recalls", "instance")]),
        ],
    ),
]  # fmt: skip

PERSIST: list[Row] = [
    (
        "Flow",
        [
            ("Records a second", "short", [rate("mbo_persist_records_total", "feed", FEED)]),
            ("Commits a second", "short", [rate("mbo_persist_commits_total", "feed", FEED)]),
            ("Busy with reading and deriving", "percentunit", [rate("mbo_persist_apply_seconds_total", "feed", FEED)]),
            ("Transaction", "s", quantiles("mbo_persist_commit_seconds", "feed", FEED)),
            ("Oldest record not committed", "s", [last("mbo_persist_lag_seconds", "feed", FEED)]),
        ],
    ),
    (
        "Store",
        [
            ("Store size", "bytes", [last("mbo_persist_store_bytes", "feed", FEED)]),
            ("Write-ahead log", "bytes", [last("mbo_persist_wal_bytes", "feed", FEED)]),
            ("Free on the disk", "bytes", [("min(mbo_persist_disk_free_bytes)", "free")]),
            ("Gaps and removals (an hour)", "short", [
                (f"sum by (feed) (increase(mbo_persist_gaps_total{FEED}[1h]))", "gaps {{feed}}"),
                (f"sum by (feed) (increase(mbo_persist_removed_records_total{FEED}[1h]))", "removed {{feed}}"),
            ]),
            ("Feeds that cannot be stored", "short", [last("mbo_persist_store_failed", "feed, why", FEED)]),
            ("Service restarts (10 min)", "short", [
                ("sum by (role, reason) (increase(mbo_service_restarts_total[10m]))", "{{role}} {{reason}}"),
            ]),
        ],
    ),
]  # fmt: skip


def _of_one_pipeline(expr: str) -> str:
    """The query about the series of the chosen namespace; compose has none, which `.*` finds too."""
    return re.sub(
        r"(?<![\w:])(mbo[_:][a-z0-9_:]+)(\{)?",
        lambda found: found[1] + '{namespace=~"$namespace"' + (", " if found[2] else "}"),
        expr,
    )


def _variable(name: str, metric: str) -> dict[str, Any]:
    return {
        "name": name, "type": "query", "datasource": DATASOURCE, "refresh": 2,
        "query": f"label_values({metric}, {name})", "includeAll": True, "multi": True, "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _panel(number: int, panel: Panel, x: int, y: int, width: int) -> dict[str, Any]:
    title, unit, queries = panel
    targets = [
        {
            "refId": chr(65 + i),
            "expr": _of_one_pipeline(expr),
            "legendFormat": legend,
            "datasource": DATASOURCE,
        }
        for i, (expr, legend) in enumerate(queries)
    ]
    return {
        "id": number, "type": "timeseries", "title": title, "datasource": DATASOURCE, "targets": targets,
        "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 5}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }  # fmt: skip


def _dashboard(name: str, rows: list[Row]) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, members in rows:
        grid = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": grid,
                "panels": [],
            }
        )
        y += 1
        per_line = 4 if len(members) == 4 else 3
        for start in range(0, len(members), per_line):
            line = members[start : start + per_line]
            width = COLUMNS // len(line)
            for index, panel in enumerate(line):
                panels.append(_panel(len(panels) + 1, panel, index * width, y, width))
            y += HEIGHT
    variables = [_variable("namespace", "mbo_service_up"), _variable("feed", "mbo_ingest_records_total")]
    return {
        "uid": f"mbo-{name}", "title": f"mbostream: {name}", "tags": ["mbostream"], "schemaVersion": 39, "version": 1,
        "refresh": "5s", "time": {"from": "now-30m", "to": "now"}, "timezone": "", "editable": False,
        "links": [{
            "type": "dashboards", "tags": ["mbostream"], "title": "mbostream", "tooltip": "", "icon": "dashboard",
            "asDropdown": False, "targetBlank": False, "keepTime": True, "includeVars": True,
        }],
        "templating": {"list": variables}, "panels": panels,
    }  # fmt: skip


def dashboards() -> dict[str, dict[str, Any]]:
    """Name → dashboard JSON."""
    rows = {"overview": OVERVIEW, "ingest": INGEST, "book": BOOK, "gateway": GATEWAY, "persist": PERSIST}
    return {name: _dashboard(name, members) for name, members in rows.items()}
