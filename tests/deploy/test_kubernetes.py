"""Every overlay renders, is valid, restricted, and gives each service settings that are its own."""

from __future__ import annotations

import copy
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.broker_users import USERS
from shared import settings
from tests.deploy import crds
from tests.deploy.generate import SERVICES
from tests.deploy.tools import ROOT, run, tool

Resource = dict[str, Any]

OVERLAYS = ("base", "overlays/dev", "overlays/staging", "overlays/prod")
VERSIONS = ("1.28", "1.34")  # the oldest and the newest we say it runs on
CUSTOM = {"PodMonitor", "PrometheusRule", "ScaledObject"}  # no schemas in the package: crds.py
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@cache
def _render(overlay: str) -> tuple[Resource, ...]:
    return tuple(yaml.safe_load_all(run("kubectl", "kustomize", str(ROOT / "k8s" / overlay))))


def _namespace(overlay: str) -> str:
    return str(_workload(overlay, "ingest")["metadata"]["namespace"])


def _of(overlay: str, *kinds: str) -> list[Resource]:
    return [each for each in _render(overlay) if each["kind"] in kinds]


def _workload(overlay: str, name: str) -> Resource:
    return next(
        each for each in _of(overlay, "Deployment", "StatefulSet") if each["metadata"]["name"] == name
    )


def _container(workload: Resource) -> Resource:
    return workload["spec"]["template"]["spec"]["containers"][0]  # type: ignore[no-any-return]


def _environment(overlay: str, name: str) -> dict[str, str]:
    """Variables of a service as the kubelet would set them."""
    container = _container(_workload(overlay, name))
    maps = {each["metadata"]["name"]: each.get("data", {}) for each in _of(overlay, "ConfigMap")}
    found: dict[str, str] = {"MBO_ADMIN_HOST": "0.0.0.0", "MBO_ADMIN_PORT": "9090"}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= maps[source["configMapRef"]["name"]]
    return found | {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_overlay_is_valid_to_the_letter(overlay: str, version: str) -> None:
    for each in _render(overlay):
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["overlays/staging", "overlays/prod"])
@pytest.mark.parametrize("spoilt", [False, True], ids=["as it is", "spoilt"])
def test_custom_resources_are_what_their_operators_take(overlay: str, spoilt: bool) -> None:
    """With models of the operators' CRDs, from PyPI, in an environment of their own."""
    made = copy.deepcopy([each for each in _render(overlay) if each["kind"] in CUSTOM])
    assert {each["kind"] for each in made} == CUSTOM
    if spoilt:
        for each in made:
            each["spec"]["minReplicaCounts"] = 2
    packages = [part for name in crds.PACKAGES for part in ("--with", name)]
    command = [tool("uv"), "run", "--quiet", "--isolated", "--no-project", *packages, "python", crds.__file__]
    done = subprocess.run(
        command, input=yaml.safe_dump_all(made), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == (len(made) if spoilt else 0), done.stdout


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", SERVICES)
def test_service_accepts_its_settings(overlay: str, service: str) -> None:
    loaded, _ = settings.load(
        SERVICES[service], [], _environment(overlay, service), prog=service, description=""
    )
    scheme = "rediss" if overlay in ("overlays/staging", "overlays/prod") else "redis"
    assert loaded.broker.startswith(f"{scheme}://{service}@redis:6379/0")
    mounts = {each["mountPath"] for each in _container(_workload(overlay, service))["volumeMounts"]}
    assert loaded.broker_password_file == "/secrets/broker/password"
    assert "/secrets/broker" in mounts


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_meet_the_restricted_standard(overlay: str) -> None:
    for workload in _of(overlay, "Deployment", "StatefulSet"):
        pod, container = workload["spec"]["template"]["spec"], _container(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
    for each in _of(overlay, "Namespace"):
        assert each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_the_admin_port_and_a_lost_broker_never_restarts_a_pod(service: str) -> None:
    container = _container(_workload("base", service))
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports["admin"] == 9090
    paths = {name: container[name]["httpGet"]["path"] for name in PROBES}
    assert paths == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    assert all(container[name]["httpGet"]["port"] == "admin" for name in PROBES)


def test_every_referenced_map_claim_and_secret_is_there_or_documented() -> None:
    outside = {f"mbo-broker-{user.name}" for user in USERS} | {
        "mbo-broker-acl", "mbo-broker-tls", "databento-key", "mbo-gateway-auth",
    }  # fmt: skip
    for overlay in OVERLAYS:
        there = {(each["kind"], each["metadata"]["name"]) for each in _render(overlay)}
        for workload in _of(overlay, "Deployment", "StatefulSet"):
            for volume in workload["spec"]["template"]["spec"].get("volumes", ()):
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in there
                if "persistentVolumeClaim" in volume:
                    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
                if "secret" in volume:
                    assert volume["secret"]["secretName"] in outside


def test_selectors_find_their_pods() -> None:
    for overlay in OVERLAYS:
        labels = [
            each["spec"]["template"]["metadata"]["labels"]
            for each in _of(overlay, "Deployment", "StatefulSet")
        ]
        selectors = [each["spec"]["selector"] for each in _of(overlay, "Service")]
        owners = _of(overlay, "PodDisruptionBudget", "PodMonitor", "Deployment", "StatefulSet")
        selectors += [each["spec"]["selector"]["matchLabels"] for each in owners]
        selectors += [each["spec"]["podSelector"]["matchLabels"] for each in _of(overlay, "NetworkPolicy")
                      if "matchLabels" in each["spec"]["podSelector"]]  # fmt: skip
        for selector in selectors:
            assert any(selector.items() <= pod.items() for pod in labels), f"{overlay}: {selector}"


def _policy_edges(overlay: str) -> set[tuple[str, str, int]]:
    """(from, to, port) that ingress AND egress policies allow between our own pods."""
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in _of(overlay, "Deployment", "StatefulSet")
    }

    def chosen(selector: Resource) -> set[str]:
        wanted = selector.get("matchLabels", {}).items()
        found = {name for name, labels in pods.items() if wanted <= labels.items()}
        for rule in selector.get("matchExpressions", ()):
            assert rule["operator"] == "In"
            found = {name for name in found if pods[name].get(rule["key"]) in rule["values"]}
        return found

    edges: dict[str, set[tuple[str, str, int]]] = {"ingress": set(), "egress": set()}
    for policy in _of(overlay, "NetworkPolicy"):
        here = chosen(policy["spec"]["podSelector"])
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, ()):
                for peer in rule[peers]:
                    if "podSelector" not in peer or "namespaceSelector" in peer:
                        continue
                    for port in rule["ports"]:
                        for one in here:
                            for other in chosen(peer["podSelector"]):
                                pair = (other, one) if direction == "ingress" else (one, other)
                                edges[direction].add((*pair, port["port"]))
    assert edges["ingress"] == edges["egress"], "one side of a connection is not allowed"
    return edges["ingress"]


def test_network_policies_allow_the_picture_and_nothing_else() -> None:
    expected = {(service, "redis", 6379) for service in SERVICES}
    expected |= {("gateway", "persist", 8082), ("book", "persist", 8082)}
    assert _policy_edges("base") == expected
    assert _policy_edges("overlays/prod") == expected | {("tools", "redis", 6379)}
    deny = next(each for each in _of("base", "NetworkPolicy") if each["metadata"]["name"] == "deny-all")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("overlay", ["overlays/staging", "overlays/prod"])
def test_with_tls_nobody_speaks_plainly(overlay: str) -> None:
    rendered = yaml.safe_dump_all(_render(overlay))
    assert "redis://" not in rendered.replace("rediss://", "")
    args = _container(_workload(overlay, "redis"))["args"]
    assert args[args.index("--port") + 1] == "0"


def test_a_broker_of_ones_own_takes_the_place_of_redis(tmp_path: Path) -> None:
    parts = {name: os.path.relpath(ROOT / "k8s" / name, tmp_path) for name in ("base", "components")}
    body = {
        "resources": [parts["base"]],
        "components": [f"{parts['components']}/{name}" for name in ("tools", "external-broker")],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    rendered = list(yaml.safe_load_all(run("kubectl", "kustomize", str(tmp_path))))
    named = {(each["kind"], each["metadata"]["name"]): each for each in rendered}
    assert not [kind for kind, name in named if name == "redis"]
    for service in (*SERVICES, "tools"):
        workload = named["StatefulSet" if service == "persist" else "Deployment", service]
        env = {each["name"]: each.get("value") for each in _container(workload)["env"]}
        user = "operator:$(BROKER_PASSWORD)" if service == "tools" else service
        assert env["MBO_BROKER"] == f"rediss://{user}@redis.example.com:6379/0"
        assert service == "tools" or env["MBO_BROKER_PASSWORD_FILE"] == "/secrets/broker/password"
    (way,) = named["NetworkPolicy", "to-redis"]["spec"]["egress"]
    assert way["ports"] == [{"protocol": "TCP", "port": 6379}]
    for each in rendered:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", ["overlays/staging", "overlays/prod"])
def test_autoscalers_own_the_replicas_and_stop_at_the_number_of_shards(overlay: str) -> None:
    scaled = _of(overlay, "ScaledObject")[0]["spec"]
    assert scaled["maxReplicaCount"] == int(_environment(overlay, "ingest")["MBO_SHARDS"])
    for name in ("book", "gateway"):
        assert "replicas" not in _workload(overlay, name)["spec"]
    query = scaled["triggers"][0]["metadata"]["query"]
    assert f'mbo_book_lag_records{{namespace="{_namespace(overlay)}"}}' in query
    metric = _of(overlay, "HorizontalPodAutoscaler")[0]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert metric == "mbo_gateway_clients"


@pytest.mark.parametrize("overlay", ["overlays/staging", "overlays/prod"])
def test_rules_speak_of_their_own_namespace_only(overlay: str, tmp_path: Path) -> None:
    """One Prometheus may see staging and production: neither hides that the other is down."""
    (rules,) = _of(overlay, "PrometheusRule")
    for rule in (rule for group in rules["spec"]["groups"] for rule in group["rules"]):
        assert rule["labels"]["namespace"] == _namespace(overlay)
        for name, matchers in re.findall(r"(?<![\w:])(mbo[_:][a-z0-9_:]+)(\{[^}]*\})?", rule["expr"]):
            assert f'namespace="{_namespace(overlay)}"' in matchers, f"{name} in {rule['expr']}"
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": rules["spec"]["groups"]}), encoding="utf-8")
    run("promtool", "check", "rules", str(file))


def test_pod_monitors_scrape_every_service() -> None:
    monitors = {each["metadata"]["name"]: each["spec"] for each in _of("overlays/prod", "PodMonitor")}
    assert set(monitors) == set(SERVICES)
    for spec in monitors.values():
        assert [each["port"] for each in spec["podMetricsEndpoints"]] == ["admin"]


def test_grace_is_longer_than_the_drain() -> None:
    drain_s = SERVICES["gateway"].__dataclass_fields__["drain_spread_s"].default
    pod = _workload("base", "gateway")["spec"]["template"]["spec"]
    sleep_s = int(_container(_workload("base", "gateway"))["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > sleep_s + drain_s + 5 + 20


def test_live_data_alone_may_leave_the_cluster() -> None:
    leaving = [each for each in _of("overlays/prod", "NetworkPolicy") if "ipBlock" in yaml.safe_dump(each)]
    assert [each["spec"]["podSelector"]["matchLabels"] for each in leaving] == [
        {"app.kubernetes.io/name": "mbo-ingest"}
    ]
    assert not [each for each in _of("base", "NetworkPolicy") if "ipBlock" in yaml.safe_dump(each)]
