"""Write what is derived from the code: `python -m tests.deploy.generate`; tests fail while a file differs from it.

.env.example from the settings classes, the broker's settings file and the alert rules for Kubernetes from their one
source, the Grafana dashboards from monitoring/grafana/panels.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
import textwrap
from pathlib import Path
from typing import Any

import yaml

from services.book.settings import BookSettings
from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings
from services.persist.settings import PersistSettings

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, type[Any]] = {
    "ingest": IngestSettings, "book": BookSettings, "gateway": GatewaySettings, "persist": PersistSettings,
}  # fmt: skip
NAMESPACES = {"staging": "mbostream-staging", "prod": "mbostream"}  # of the overlays that are monitored
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::?-([^}]*))?\}")
MEANING = {
    "IMAGE_PREFIX": "name of the images before -ingest, -book …; set it to your registry's folder",
    "VERSION": "tag of the images, and what --version of a build says",
    "PYTHON_IMAGE": "base of the images that are built here",
    "BROKER_IMAGE": "Redis 7 or newer, or Valkey 8 or newer (9 takes half the CPU of Redis 7)",
    "PROXY_IMAGE": "the proxy", "PROMETHEUS_IMAGE": "profile observability",
    "ALERTMANAGER_IMAGE": "profile observability",
    "GRAFANA_IMAGE": "profile observability",
    "SOURCE": "sim, historical, or /files/NAME", "SPEED": "replay by market time; max as fast as it goes",
    "SHARDS": "shards of a new feed; fixed for its life; the most book workers that can share it",
    "FILES": "folder of DBN files, mounted at /files", "LOG_LEVEL": "debug, info, warning, error",
    "BIND": "address the proxy is published on; read docs/operations.md before you change it",
    "PORT": "port of the page and the API", "SITE_ADDRESS": "the proxy's own address inside its container",
    "ALLOWED_HOSTS": "names clients may use in Host",
    "GATEWAY_AUTH": "empty when API keys or JWT are set up; --insecure serves everybody who reaches the proxy",
    "JWT_SECRET_FILE": "file with the HS256 secret, at least 32 characters, readable by uid 10001",
    "DATABENTO_KEY_FILE": "profile live: file with the API key, readable by uid 10001",
    "DATABENTO_DATASET": "profile live", "DATABENTO_SYMBOLS": "profile live", "DATABENTO_STYPE_IN": "profile live",
    "BROKER_MAXMEMORY": "memory for data; a replay is held back at 60 % of it",
    "METRICS_RETENTION": "how long Prometheus keeps samples",
    "PROMETHEUS_PORT": "on loopback", "ALERTMANAGER_PORT": "on loopback", "GRAFANA_PORT": "on loopback",
}  # fmt: skip


def _meaning(name: str) -> str:
    if name in MEANING:
        return MEANING[name]
    service, _, kind = name.lower().rpartition("_")
    words = {
        "limit": "memory limit of {}",
        "cpus": "CPU limit of {}",
        "options": "options of {}, from the list below",
    }
    return words[kind].format("the broker" if service == "broker" else service)


def env_example() -> str:
    """`.env.example`: compose's own variables with their defaults, then every setting of every service."""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    lines = [
        "# Copy to .env and uncomment what you change. Written by `python -m tests.deploy.generate`.",
        "# First the variables of docker-compose.yml with their defaults.",
        "",
    ]
    seen: set[str] = set()
    for name, default in VARIABLE.findall(compose):
        if name not in seen:
            seen.add(name)
            lines += [f"# {_meaning(name)}", f"# {name}={default}"]
    lines += [
        "",
        "# Every setting of every service, with its default. In containers they are given as options:",
        "#   BOOK_OPTIONS=--lease-ms 1000 --image-s 5      (likewise INGEST_OPTIONS, GATEWAY_OPTIONS, PERSIST_OPTIONS)",
        "# Outside of containers each is also a variable of its own: --lease-ms is MBO_LEASE_MS.",
        "# A misspelt one is an error, never ignored.",
    ]
    for service, cls in SERVICES.items():
        lines += ["", f"# ---- {service}"]
        for field in dataclasses.fields(cls):
            default = field.default
            shown = " ".join(default) if isinstance(default, tuple) else "" if default is None else default
            lines.append(
                f"#   --{field.name.replace('_', '-')} {shown}".rstrip() + f"    # MBO_{field.name.upper()}"
            )
            lines += textwrap.wrap(
                field.metadata["help"], 105, initial_indent="#         ", subsequent_indent="#         "
            )
    return "\n".join(lines) + "\n"


def broker_conf() -> str:
    """k8s/base/broker.conf: kustomize cannot read files outside of its folder."""
    return (ROOT / "shared" / "broker.conf").read_text(encoding="utf-8")


def in_namespace(expr: str, namespace: str) -> str:
    """A rule's expression about the series of one namespace only."""
    matcher = f'namespace="{namespace}"'
    return re.sub(
        r"(?<![\w:])(mbo[_:][a-z0-9_:]+)(\{)?",
        lambda found: f"{found[1]}{{{matcher}," if found[2] else f"{found[1]}{{{matcher}}}",
        expr,
    )


def prometheus_rule(namespace: str) -> str:
    """k8s/overlays/*/rules.yaml: the rules of monitoring/prometheus/rules for the Prometheus operator, whose Prometheus
    may see several pipelines: expressions and results carry the namespace."""
    groups: list[Any] = []
    for path in sorted((ROOT / "monitoring" / "prometheus" / "rules").glob("*.yml")):
        groups += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for group in groups:
        for rule in group["rules"]:
            rule["expr"] = in_namespace(rule["expr"], namespace)
            rule["labels"] = {**rule.get("labels", {}), "namespace": namespace}
    body = {
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "metadata": {"name": "mbostream", "labels": {"app.kubernetes.io/part-of": "mbostream"}},
        "spec": {"groups": groups},
    }  # fmt: skip
    head = "# Written by `python -m tests.deploy.generate` from monitoring/prometheus/rules.\n"
    return head + yaml.safe_dump(body, sort_keys=False, width=120, allow_unicode=True)


def dashboards() -> dict[str, str]:
    """File name → JSON of every Grafana dashboard."""
    made = runpy.run_path(str(ROOT / "monitoring" / "grafana" / "panels.py"))["dashboards"]()
    return {
        f"{name}.json": json.dumps(board, indent=1, ensure_ascii=False) + "\n" for name, board in made.items()
    }


def files() -> dict[str, str]:
    """Path in the repository → text, of everything that is generated."""
    found = {
        ".env.example": env_example(),
        "k8s/base/broker.conf": broker_conf(),
    }
    for overlay, namespace in NAMESPACES.items():
        found[f"k8s/overlays/{overlay}/rules.yaml"] = prometheus_rule(namespace)
    return found | {f"monitoring/grafana/dashboards/{name}": text for name, text in dashboards().items()}


def main() -> int:
    for name, text in files().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
