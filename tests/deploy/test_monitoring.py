"""Rules, dashboards and the catalogue of metrics agree; every alert has a test, a runbook and a place in the guide."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.metrics import METRICS
from tests.deploy import grafana
from tests.deploy.tools import ROOT, run, tool

MONITORING = ROOT / "monitoring"
RULES = sorted((MONITORING / "prometheus" / "rules").glob("*.yml"))
TESTS = sorted((MONITORING / "prometheus" / "tests").glob("*.yml"))
CATALOGUE = {metric.name: metric for metric in METRICS}
FROM_SCRAPE = {"job", "instance", "namespace", "pod", "le"}


def _rules() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[tuple[str, str]]:
    """(where, PromQL) of every panel, its variables filled in."""
    found = []
    for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                expr = (
                    target["expr"]
                    .replace("$__rate_interval", "1m")
                    .replace("$feed", ".*")
                    .replace("$namespace", ".*")
                )
                found.append((f"{path.stem}: {panel['title']}", expr))
    return found


ALERTS = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in _rules() if "record" in rule}


def _metric(name: str) -> Any:
    """The catalogue row that exports a series of this name; fails if none does."""
    for suffix in ("_bucket", "_count", "_sum"):
        row = CATALOGUE.get(name.removesuffix(suffix))
        if name.endswith(suffix) and row is not None and row.kind == "histogram":
            return row
    row = CATALOGUE.get(name)
    assert row is not None, f"{name} is not in shared/metrics.py"
    assert row.kind != "histogram", f"{name} is a histogram: use _bucket, _sum or _count"
    return row


def _check(where: str, expr: str) -> None:
    """Every metric of an expression exists, and every label is one that it has."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    for name in re.findall(r"mbo:[\w:]+", bare):
        assert name in RECORDED, f"{where}: no rule records {name}"
    names = re.findall(r"(?<![:\w])mbo_[a-z0-9_]+", bare)
    assert names or "mbo:" in bare or expr == "vector(1)", f"{where}: no metric of ours in {expr}"
    allowed = set(FROM_SCRAPE)
    for name in names:
        allowed |= set(_metric(name).labels)
    for name, matchers in re.findall(r"(mbo_[a-z0-9_]+)\{([^}]*)\}", bare):
        for label in re.findall(r"(\w+)\s*(?:=|!)", matchers):
            assert label in FROM_SCRAPE | set(_metric(name).labels), f"{where}: {name} has no label {label}"
    for name, matchers in re.findall(r"(mbo_[a-z0-9_]+)\{([^}]*)\}", expr):
        for label, value in re.findall(r'(\w+)\s*(?:=|!=|=~|!~)\s*"([^"]*)"', matchers):
            known = _metric(name).values.get(label)
            wrong = known and [part for part in value.split("|") if part not in known and part != ".*"]
            assert not wrong, f"{where}: {name} has no {label} {wrong}; there are {known}"
    for labels in re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", bare):
        for label in (part.strip() for part in labels.split(",") if part.strip()):
            assert label in allowed, f"{where}: no metric in it has the label {label}"


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rule_uses_metrics_that_are_exported(rule: dict[str, Any]) -> None:
    _check(rule.get("alert") or rule["record"], rule["expr"])


@pytest.mark.parametrize(("where", "expr"), queries(), ids=lambda text: text if ":" in text[:12] else "")
def test_panel_uses_metrics_that_are_exported(where: str, expr: str) -> None:
    _check(where, expr)


def test_every_metric_is_on_a_dashboard() -> None:
    shown = " ".join(expr for _, expr in queries())
    missing = [name for name in CATALOGUE if not re.search(rf"\b{name}(_bucket|_sum|_count)?\b", shown)]
    assert not missing, f"add them to monitoring/grafana/panels.py: {missing}"


def test_every_metric_is_counted_somewhere() -> None:
    paths = [path for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py")]
    code = "".join(
        path.read_text(encoding="utf-8") for path in paths if path != ROOT / "shared" / "metrics.py"
    )
    unused = [name for name in CATALOGUE if f'"{name}"' not in code]
    assert not unused, f"nothing counts {unused}"


def test_every_series_in_the_rule_tests_is_exported() -> None:
    for path in TESTS:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for series in case["input_series"]:
                name, _, matchers = series["series"].partition("{")
                labels = set(re.findall(r"(\w+)=", matchers))
                assert labels <= FROM_SCRAPE | set(_metric(name).labels), (
                    f"{case['name']}: {series['series']}"
                )


def test_queries_of_dashboards_are_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": expr} for i, (_, expr) in enumerate(queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    run("promtool", "check", "rules", str(file))


def test_prometheus_takes_its_configuration_and_rules() -> None:
    run("promtool", "check", "config", str(MONITORING / "prometheus" / "prometheus.yml"))
    run("promtool", "check", "rules", *map(str, RULES))


def test_alertmanager_takes_its_configuration() -> None:
    file = MONITORING / "alertmanager" / "alertmanager.yml"
    run("amtool", "check-config", str(file))
    body = yaml.safe_load(file.read_text(encoding="utf-8"))
    for inhibit in body["inhibit_rules"]:
        for matcher in (*inhibit["source_matchers"], *inhibit["target_matchers"]):
            label, _, value = re.split(r" (=~|=) ", matcher)
            if label == "alertname":
                assert set(value.strip('"').split("|")) <= set(ALERTS), matcher


def test_alerts_fire_and_clear_when_they_should() -> None:
    run("promtool", "test", "rules", *map(str, TESTS))


def test_every_alert_has_a_rule_test() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS)
    assert not [name for name in ALERTS if f'"{name}"' not in text and f"alertname: {name}\n" not in text]


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_to_do_and_where_to_read_on(name: str) -> None:
    rules = [rule for rule in _rules() if rule.get("alert") == name]
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for rule in rules:
        notes = rule["annotations"]
        assert set(notes) == {"summary", "runbook", "runbook_url"}
        assert notes["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert re.search(rf"^#+ {name}$", guide, flags=re.MULTILINE), f"docs/operations.md has no heading {name}"


def test_guide_speaks_of_no_alert_that_is_gone() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^#+ (Mbo\w+)$", guide, flags=re.MULTILINE)) == set(ALERTS)


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", [False, True], ids=["as they are", "spoilt"])
def test_dashboards_are_what_grafana_takes(spoilt: bool) -> None:
    """With the model of Grafana's SDK, from PyPI, in an environment of its own."""
    paths = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
    boards = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    if spoilt:
        for board in boards.values():
            board["editible"] = False
            board["panels"][1]["fieldConfig"]["defaults"]["custom"]["fillOpacitty"] = 5
            board["panels"][1]["targets"][0]["expression"] = "up"
    packages = [part for name in grafana.PACKAGES for part in ("--with", name)]
    command = [tool("uv"), "run", "--quiet", "--isolated", "--no-project", *packages]
    done = subprocess.run(
        [*command, "python", "-m", grafana.__name__],
        cwd=ROOT, input=json.dumps(boards), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == (3 * len(boards) if spoilt else 0), done.stdout


def test_grafana_finds_its_dashboards_and_data() -> None:
    grafana = MONITORING / "grafana"
    source = yaml.safe_load((grafana / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    uids = {each["uid"] for each in source["datasources"]}
    seen = set()
    for path in (grafana / "dashboards").glob("*.json"):
        board = json.loads(path.read_text(encoding="utf-8"))
        assert board["uid"] not in seen
        seen.add(board["uid"])
        for panel in board["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] in uids
    assert len(seen) == 5
