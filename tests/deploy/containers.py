"""The images and the compose file for real: `make containers` (python -m tests.deploy.containers).

Builds the images, runs docker-compose.yml end to end (data flows, 4 workers and 2 gateways, a killed worker, a
restarted Redis, everything stopped), then the Kubernetes base by `podman play kube`. Records must go on through all of
it, and a client must never get a delta that does not follow what it has.

--engine docker   any Docker with compose v2: what GitHub Actions runs
--engine podman   Debian's podman and docker-compose; --stand-ins, without a registry: the base images are made from
                  Debian packages. apt: podman buildah runc uidmap netavark aardvark-dns iptables catatonit
                  mmdebstrap fuse-overlayfs docker-compose
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from services import broker_users
from tests.deploy.generate import ROOT, SERVICES

PORT = 18080
ADMIN_PORT = 9090
CONTEXT = ("pyproject.toml", "requirements.runtime.lock", "README.md", "LICENSE", "CHANGELOG.md", "services", "shared",
           "Dockerfile", ".dockerignore", "docker-compose.yml", "Caddyfile", "monitoring", "k8s")  # fmt: skip
CERTIFICATES = "/etc/ssl/certs"
ENGINE_CONF = """[containers]
default_ulimits=["nofile=4096:4096","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
"""
STAND_INS = {
    "python:3.11-slim": """FROM localhost/mbo-debian
RUN ln -sf /usr/bin/python3 /usr/local/bin/python \\
 && ln -sf /usr/bin/pip3 /usr/local/bin/pip && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
""",
    "redis:7.4-bookworm": """FROM localhost/mbo-debian
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null \\
 && usermod -u 999 redis && groupmod -g 999 redis && install -d -o 999 -g 999 /data
""",
    "caddy:2.10-alpine": """FROM localhost/mbo-debian
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends caddy >/dev/null
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
""",
}
began = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)


def sh(*command: str, env: dict[str, str] | None = None, check: bool = True, cwd: Path | None = None) -> str:
    """Run a command; its output. Ends the run with what it said if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise SystemExit(
            f"{' '.join(command)[:200]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
    return done.stdout


def until(what: str, probe: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """What `probe` says once it says something; the seconds it took are part of the report."""
    start = time.monotonic()
    while time.monotonic() - start < timeout_s:
        if found := probe():
            say(f"{what}: after {time.monotonic() - start:.1f} s")
            return found
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within {timeout_s:.0f} s")


class Engine:
    """docker or podman: build, compose and inspect."""

    def __init__(self, name: str, folder: Path, stand_ins: bool) -> None:
        self.name, self.folder, self.stand_ins = name, folder, stand_ins
        self.project = f"mbo{secrets.token_hex(3)}"
        self.context = folder / "context"
        self.env = {
            "PORT": str(PORT),
            "SHARDS": "16",
            "COMPOSE_PROJECT_NAME": self.project,
            "INGEST_OPTIONS": "--instruments 32",
        }
        self._api: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        if name == "podman":
            conf = folder / "containers.conf"
            conf.write_text(ENGINE_CONF, encoding="utf-8")
            self.env |= {"CONTAINERS_CONF": str(conf), "DOCKER_HOST": f"unix://{folder}/api.sock"}

    def run(self, *args: str, check: bool = True) -> str:
        return sh(self.name, *args, env=self.env, check=check)

    def snapshot(self) -> None:
        """A copy of what is built, so that an edit meanwhile does not make two versions."""
        for name in CONTEXT:
            source, target = ROOT / name, self.context / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def make_stand_ins(self) -> None:
        """Images of Debian packages under the names of the real ones."""
        if not self.run("image", "ls", "-q", "localhost/mbo-debian").strip():
            tar = self.folder / "debian.tar"
            include = "ca-certificates,python3,python3-venv,python3-pip"
            sh("mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}", "bookworm", str(tar))
            self.run("import", "-q", str(tar), "localhost/mbo-debian")
            tar.unlink()
        for tag, text in STAND_INS.items():
            if not self.run("image", "ls", "-q", f"docker.io/library/{tag}").strip():
                file = self.folder / "Standin"
                file.write_text(text, encoding="utf-8")
                self.build(file, f"docker.io/library/{tag}", None, self.folder)
        say("stand-ins for the base images are there")

    def build(self, file: Path, tag: str, target: str | None, context: Path) -> None:
        extra = ["--target", target] if target else []
        if self.name == "podman":
            extra += ["--format", "docker", "--network=host", "-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        self.run("build", "-q", "-f", str(file), "-t", tag, *extra, str(context))

    def build_images(self) -> None:
        file = self.context / "Dockerfile"
        if self.name == "podman":
            # buildah 1.28 mounts an empty stage when the stage came from its cache, and its cache does not look at what
            # is mounted: name an image instead, by its content.
            inputs = [
                (self.context / name).read_bytes() for name in ("requirements.runtime.lock", "pyproject.toml")
            ]
            wheels = f"localhost/mbo-wheels:{hashlib.sha256(b''.join(inputs)).hexdigest()[:12]}"
            self.build(file, wheels, "wheels", self.context)
            file = self.folder / "Dockerfile"
            text = (self.context / "Dockerfile").read_text(encoding="utf-8")
            file.write_text(text.replace("from=wheels,", f"from={wheels},"), encoding="utf-8")
        for service in SERVICES:
            start = time.monotonic()
            self.build(file, f"mbostream-{service}:dev", service, self.context)
            size = int(self.run("image", "inspect", "-f", "{{.Size}}", f"mbostream-{service}:dev"))
            say(f"image {service}: {size / 1e6:.0f} MB, built in {time.monotonic() - start:.0f} s")
        base = int(
            self.run("image", "inspect", "-f", "{{.Size}}", "python:3.11-slim", check=False).strip() or 0
        )
        say(f"of which the base image: {base / 1e6:.0f} MB")

    # -- compose ------------------------------------------------------------------------------------------------------

    def compose(self, *args: str, check: bool = True) -> str:
        command = ("docker", "compose") if self.name == "docker" else ("docker-compose",)
        return sh(*command, *args, env=self.env, check=check, cwd=self.context)

    def serve_api(self) -> None:
        """podman's Docker-compatible socket, for docker-compose."""
        if self.name == "podman":
            command = ["podman", "system", "service", "--time=0", self.env["DOCKER_HOST"]]
            self._api = subprocess.Popen(command, env={**os.environ, **self.env}, stderr=subprocess.DEVNULL)
            until("podman's socket", (self.folder / "api.sock").exists, 10)
            threading.Thread(target=self.pump_health, name="health", daemon=True).start()

    def pump_health(self) -> None:
        """podman leaves the timers of healthchecks to systemd: without it, run the broker's by hand for ever."""
        while not self._closing.wait(2.0):
            for container in self.run(
                "ps", "-q", "--filter", f"name={self.project}_redis_", check=False
            ).split():
                self.run("healthcheck", "run", container, check=False)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def admin(self, container: str, path: str) -> Any:
        """What a container's admin port answers, asked from inside."""
        url = f"http://127.0.0.1:{ADMIN_PORT}{path}"
        code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=3).read().decode())"
        return self.run("exec", container, "python", "-c", code, check=False)

    def close(self) -> None:
        self._closing.set()
        if self._api is not None:
            self._api.send_signal(signal.SIGTERM)
            self._api.wait(20)


def get(path: str) -> Any:
    """JSON of the gateway through the proxy, or None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=3) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def folded() -> int:
    """Records committed by the workers, all shards of all feeds: the sum of the offsets."""
    seen = get("/v1/pipeline")
    rows = [row for feed in (seen or {}).get("feeds", ()) for row in feed["shards"]]
    return sum(row["readers"]["book"]["at"] or 0 for row in rows if row["readers"].get("book")) if rows else 0


def owners() -> set[str]:
    seen = get("/v1/pipeline")
    return {row["owner"] for feed in (seen or {}).get("feeds", ()) for row in feed["shards"] if row["owner"]}


def all_owned_without(gone: set[str]) -> bool:
    seen = get("/v1/pipeline")
    rows = [row for feed in (seen or {}).get("feeds", ()) for row in feed["shards"]]
    return bool(rows) and all(row["owner"] and row["owner"] not in gone for row in rows)


def grows(by: int = 2000) -> Callable[[], bool]:
    """A probe: that so many more records have been committed than when it was made."""
    start = folded()
    return lambda: folded() >= start + by


class Watcher:
    """One SSE stream over the whole run: counts events, and deltas whose chain broke."""

    CODE = """
import json, sys, time, urllib.request
views, counts, broken, last = {}, {}, 0, ""
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    try:
        head = {"Last-Event-ID": last} if last else {}
        request = urllib.request.Request(sys.argv[1], headers=head)
        with urllib.request.urlopen(request, timeout=20) as stream:
            counts["connected"] = counts.get("connected", 0) + 1
            event = ""
            for raw in stream:
                line = raw.decode().rstrip("\\n")
                if line.startswith("event: "): event = line[7:]
                elif line.startswith("id: "): last = line[4:]
                elif line.startswith("data: "):
                    body = json.loads(line[6:])
                    counts[event] = counts.get(event, 0) + 1
                    if event == "hello":
                        for view in body["views"]:
                            if not view["resumed"]: views.pop(view["view"], None)
                    elif event == "snapshot": views[body["view"]] = body["q"]
                    elif event == "delta":
                        if views.get(body["view"]) != body["p"]: broken += 1
                        else: views[body["view"]] = body["q"]
                if time.monotonic() > end: break
    except OSError:
        time.sleep(0.2)
print(json.dumps({"counts": counts, "broken": broken, "views": len(views)}))
"""

    def __init__(self, seconds: float) -> None:
        url = f"http://127.0.0.1:{PORT}/v1/stream?symbols=ALL_SYMBOLS&channels=book&depth=10"
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, url, str(seconds)], stdout=subprocess.PIPE, text=True
        )

    def result(self) -> dict[str, Any]:
        said, _ = self._process.communicate(timeout=120)
        return json.loads(said)  # type: ignore[no-any-return]


def _pipeline(engine: Engine) -> None:
    """docker-compose.yml from `up` to `down`."""
    start = time.monotonic()
    engine.compose("up", "-d", "--no-build")
    until("proxy answers with instruments", lambda: (get("/v1/instruments") or {}).get("instruments"), 180)
    until("records are committed", grows(), 120)
    say(f"from `up` to books over HTTP: {time.monotonic() - start:.1f} s")
    for service in SERVICES:
        for container in engine.containers(service):
            check = engine.run("exec", container, f"mbo-{service}", "--check", check=False)
            assert '"ready": true' in check, f"{service} is not ready: {check}"
    say("healthchecks of all services pass (`--check`)")
    for service in SERVICES:
        listed = engine.run(
            "exec", engine.containers(service)[0], "sh", "-c",
            "cd /tmp/numba 2>/dev/null && find . -name '*.nbc'; echo; cd /opt/app/jit && find . -name '*.nbc'",
        )  # fmt: skip
        used, made = (set(part.split()) for part in listed.split("\n\n" if listed[:1] != "\n" else "\n", 1))
        assert not used - made, f"{service} compiled {used - made}: services/warm.py must meet them"
        say(f"{service}: {len(used)} kernels copied from the image's {len(made)}, none compiled")

    watcher = Watcher(75)
    engine.compose("up", "-d", "--no-build", "--scale", "book=4", "--scale", "gateway=2")
    until("4 workers own shards", lambda: len(owners()) == 4)
    until("2 gateways run", lambda: len(engine.containers("gateway")) == 2)
    until("records go on", grows())

    victim = engine.containers("book")[0]
    worker = json.loads(engine.admin(victim, "/readyz"))["worker"]
    engine.run("kill", "--signal", "KILL", victim)
    until("the killed worker's shards have other owners", lambda: all_owned_without({worker}))
    until("records go on", grows())

    engine.compose("restart", "redis")
    until("records go on after the restart of Redis", grows(), 120)

    seen = watcher.result()
    say(f"a client over all of this: {json.dumps(seen)}")
    assert seen["broken"] == 0, "a delta came that did not follow what the client had"
    assert seen["counts"]["delta"] > 100

    status = engine.compose("run", "--rm", "-T", "tools", "status", check=False)
    assert "session" in status, status
    start = time.monotonic()
    engine.compose("stop")
    states = engine.run(
        "ps", "-a", "--filter", f"name={engine.project}", "--format", "{{.Names}} {{.Status}}"
    )
    say(f"stopped in {time.monotonic() - start:.1f} s")
    for line in states.splitlines():
        if re.search(r"[_-](ingest|book|gateway|persist|redis)[_-]\d+ ", line) and victim[:12] not in line:
            say("  " + line)


def _play_kube(engine: Engine) -> None:
    """The Kubernetes base on one host: what podman knows of it (workloads as one Pod each, no policies, no probes)."""
    docs = [
        each
        for each in yaml.safe_load_all(sh("kubectl", "kustomize", str(engine.context / "k8s" / "base")))
        if each
    ]
    passwords = broker_users.write(engine.folder / "secrets")
    made: list[dict[str, Any]] = [
        each for each in json.loads(broker_users.secrets_manifest(engine.folder / "secrets", passwords))["items"]
        if each["metadata"]["name"] != "mbo-broker-operator"
    ]  # fmt: skip
    for each in made:
        file = engine.folder / "secret.yaml"
        each["immutable"] = False  # podman 4.3 falls over a field that is left out, and mounts data undecoded
        each["data"] = {key: base64.b64decode(text).decode() for key, text in each["data"].items()}
        file.write_text(yaml.safe_dump(each), encoding="utf-8")
        engine.run("secret", "rm", each["metadata"]["name"], check=False)
        engine.run("secret", "create", each["metadata"]["name"], str(file))
    played: list[dict[str, Any]] = [
        each for each in docs if each["kind"] in ("ConfigMap", "PersistentVolumeClaim")
    ]
    for each in docs:
        if each["kind"] not in ("Deployment", "StatefulSet"):
            continue
        spec = each["spec"]
        pod = spec["template"]
        for claim in spec.pop("volumeClaimTemplates", ()):
            name = f"{claim['metadata']['name']}-{each['metadata']['name']}"
            played.append(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": name},
                    "spec": claim["spec"],
                }
            )
            pod["spec"].setdefault("volumes", []).append(
                {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": name}}
            )
        container = pod["spec"]["containers"][0]
        container["ports"] = []  # podman 4.3 publishes each on the host, and turns probes into calls of curl
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            container.pop(probe)
        if each["metadata"]["name"] == "gateway":
            container["ports"] = [{"containerPort": 8080, "hostPort": PORT, "hostIP": "127.0.0.1"}]
            container["env"].append({"name": "MBO_INSECURE", "value": "true"})
            container["envFrom"] = container["envFrom"][:1]  # not the optional Secret
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                volume["secret"]["optional"] = False  # the same
        # a Pod by the name of the workload, so that others find it by that name
        meta = {"name": each["metadata"]["name"], "labels": pod["metadata"]["labels"]}
        played.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"]})
    file = engine.folder / "base.yaml"
    file.write_text(yaml.safe_dump_all(played), encoding="utf-8")
    network = f"{engine.project}-kube"
    claims = [each["metadata"]["name"] for each in played if each["kind"] == "PersistentVolumeClaim"]
    engine.run("volume", "rm", "-f", *claims, check=False)
    engine.run("network", "create", network)
    try:
        engine.run("play", "kube", "--network", network, str(file))
        until(
            "base by play kube: instruments", lambda: (get("/v1/instruments") or {}).get("instruments"), 120
        )
        until("base by play kube: records are committed", grows(500), 120)
    finally:
        engine.run("play", "kube", "--down", str(file), check=False)
        engine.run("volume", "rm", "-f", *claims, check=False)
        engine.run("network", "rm", "-f", network, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("podman", "docker"), default="podman")
    parser.add_argument("--stand-ins", action="store_true", help="make base images from Debian packages")
    parser.add_argument("--keep", action="store_true", help="leave images and volumes")
    parser.add_argument("--skip-build", action="store_true", help="take the images of the last run")
    parser.add_argument("--only", choices=("compose", "kube"), help="one part of it")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # take everything down
    with tempfile.TemporaryDirectory(prefix="mbo-containers-") as name:
        engine = Engine(args.engine, Path(name), args.stand_ins)
        engine.snapshot()
        if args.stand_ins:
            engine.make_stand_ins()
        if not args.skip_build:
            engine.build_images()
        engine.serve_api()
        try:
            if args.only != "kube":
                try:
                    _pipeline(engine)
                finally:
                    engine.compose("down", "-v", "--remove-orphans", check=False)
            if args.engine == "podman" and args.only != "compose":
                _play_kube(engine)
        finally:
            engine.close()
    say("containers: 1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
