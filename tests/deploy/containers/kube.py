"""The Kubernetes base on one host by `podman play kube`: what podman knows of it, each workload as one Pod."""

from __future__ import annotations

import base64
import json
from typing import Any

import yaml

from services import broker_users
from tests.deploy.containers.engine import PORT, Engine
from tests.deploy.containers.probes import grows, instruments
from tests.deploy.containers.shell import sh, until

Resource = dict[str, Any]


def play(engine: Engine) -> None:
    """Secrets, ConfigMaps, claims and pods of k8s/base; books over HTTP; all taken down again."""
    rendered = sh("kubectl", "kustomize", str(engine.context / "k8s" / "base"))
    played = _playable([each for each in yaml.safe_load_all(rendered) if each])
    file = engine.folder / "base.yaml"
    file.write_text(yaml.safe_dump_all(played), encoding="utf-8")
    network = f"{engine.project}-kube"
    claims = [each["metadata"]["name"] for each in played if each["kind"] == "PersistentVolumeClaim"]
    _make_secrets(engine)
    engine.run("volume", "rm", "-f", *claims, check=False)
    engine.run("network", "create", network)
    try:
        engine.run("play", "kube", "--network", network, str(file))
        until("base by play kube: instruments", instruments, 120)
        until("base by play kube: records are committed", grows(500), 120)
    finally:
        engine.run("play", "kube", "--down", str(file), check=False)
        engine.run("volume", "rm", "-f", *claims, check=False)
        engine.run("network", "rm", "-f", network, check=False)


def _make_secrets(engine: Engine) -> None:
    folder = engine.folder / "secrets"
    made = json.loads(broker_users.secrets_manifest(folder, broker_users.write(folder)))["items"]
    for each in made:
        name = each["metadata"]["name"]
        if name == "mbo-broker-operator":
            continue
        each["immutable"] = False  # podman 4.3 falls over a field that is left out, and mounts data undecoded
        each["data"] = {key: base64.b64decode(text).decode() for key, text in each["data"].items()}
        file = engine.folder / "secret.yaml"
        file.write_text(yaml.safe_dump(each), encoding="utf-8")
        engine.run("secret", "rm", name, check=False)
        engine.run("secret", "create", name, str(file))


def _playable(docs: list[Resource]) -> list[Resource]:
    """The base as podman 4.3 takes it: Pods instead of workloads, by the workload's name so that others find them."""
    played = [each for each in docs if each["kind"] in ("ConfigMap", "PersistentVolumeClaim")]
    for each in docs:
        if each["kind"] not in ("Deployment", "StatefulSet"):
            continue
        name, pod = each["metadata"]["name"], each["spec"]["template"]
        for claim in each["spec"].get("volumeClaimTemplates", ()):
            full = f"{claim['metadata']['name']}-{name}"
            played.append(
                {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": full},
                    "spec": claim["spec"],
                }
            )  # fmt: skip
            volume = {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": full}}
            pod["spec"].setdefault("volumes", []).append(volume)
        _adapt(name, pod["spec"])
        meta = {"name": name, "labels": pod["metadata"]["labels"]}
        played.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"]})
    return played


def _adapt(name: str, spec: Resource) -> None:
    """podman publishes every containerPort on the host and turns probes into calls of curl; it needs `optional`."""
    container = spec["containers"][0]
    container["ports"] = []
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        container.pop(probe)
    if name == "gateway":
        container["ports"] = [{"containerPort": 8080, "hostPort": PORT, "hostIP": "127.0.0.1"}]
        container["env"].append({"name": "MBO_INSECURE", "value": "true"})
        container["envFrom"] = container["envFrom"][:1]  # not the optional Secret
    for volume in spec["volumes"]:
        if "secret" in volume:
            volume["secret"]["optional"] = False
