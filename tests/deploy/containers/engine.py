"""docker or podman: build images, run compose, look into containers."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.deploy.containers.shell import say, sh, until
from tests.deploy.generate import ROOT, SERVICES

PORT = 18080
ADMIN_PORT = 9090
CONTEXT = ("pyproject.toml", "requirements.runtime.lock", "README.md", "LICENSE", "CHANGELOG.md", "services", "shared",
           "Dockerfile", ".dockerignore", "docker-compose.yml", "Caddyfile", "monitoring", "k8s")  # fmt: skip
CERTIFICATES = "/etc/ssl/certs"
CONF = """[containers]
default_ulimits=["nofile=4096:4096","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
"""


class Engine:
    """One project of one engine, in a folder of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.project = f"mbo{secrets.token_hex(3)}"
        self.context = folder / "context"
        self.env = {
            "PORT": str(PORT), "SHARDS": "16", "COMPOSE_PROJECT_NAME": self.project,
            "INGEST_OPTIONS": "--instruments 32", "PROMETHEUS_PORT": "19090", "ALERTMANAGER_PORT": "19093",
            "GRAFANA_PORT": "13000",
        }  # fmt: skip
        self._api: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        if name == "podman":
            conf = folder / "containers.conf"
            conf.write_text(CONF, encoding="utf-8")
            self.env |= {"CONTAINERS_CONF": str(conf), "DOCKER_HOST": f"unix://{folder}/api.sock"}

    def run(self, *args: str, check: bool = True) -> str:
        return sh(self.name, *args, env=self.env, check=check)

    # -- images -------------------------------------------------------------------------------------------------------

    def snapshot(self) -> None:
        """A copy of what is built, so that an edit meanwhile does not make two versions."""
        for name in CONTEXT:
            source, target = ROOT / name, self.context / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def build(self, file: Path, tag: str, target: str | None, context: Path) -> None:
        extra = ["--target", target] if target else []
        if self.name == "podman":
            extra += ["--format", "docker", "--network=host", "-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        self.run("build", "-q", "-f", str(file), "-t", tag, *extra, str(context))

    def build_images(self) -> None:
        """Every service's image; says its size and how long it took."""
        file = self._dockerfile()
        for service in SERVICES:
            start = time.monotonic()
            self.build(file, f"mbostream-{service}:dev", service, self.context)
            size = int(self.run("image", "inspect", "-f", "{{.Size}}", f"mbostream-{service}:dev"))
            say(f"image {service}: {size / 1e6:.0f} MB, built in {time.monotonic() - start:.0f} s")
        base = self.run("image", "inspect", "-f", "{{.Size}}", "python:3.11-slim", check=False).strip()
        say(f"of which the base image: {int(base or 0) / 1e6:.0f} MB")

    def _dockerfile(self) -> Path:
        """For podman with the stage of wheels as an image: buildah 1.28 mounts an empty stage when the stage came from
        its cache, and its cache does not look at what is mounted. So an image is named instead, by its content."""
        file = self.context / "Dockerfile"
        if self.name != "podman":
            return file
        inputs = [
            (self.context / name).read_bytes() for name in ("requirements.runtime.lock", "pyproject.toml")
        ]
        wheels = f"localhost/mbo-wheels:{hashlib.sha256(b''.join(inputs)).hexdigest()[:12]}"
        self.build(file, wheels, "wheels", self.context)
        named = self.folder / "Dockerfile"
        text = file.read_text(encoding="utf-8").replace("from=wheels,", f"from={wheels},")
        named.write_text(text, encoding="utf-8")
        return named

    # -- compose ------------------------------------------------------------------------------------------------------

    def compose(self, *args: str, check: bool = True) -> str:
        command = ("docker", "compose") if self.name == "docker" else ("docker-compose",)
        return sh(*command, *args, env=self.env, check=check, cwd=self.context)

    def down(self) -> None:
        profiles = ("--profile", "live", "--profile", "observability")
        self.compose(*profiles, "down", "-v", "--remove-orphans", check=False)

    def serve_api(self) -> None:
        """podman's Docker-compatible socket, for docker-compose."""
        if self.name == "podman":
            command = ["podman", "system", "service", "--time=0", self.env["DOCKER_HOST"]]
            self._api = subprocess.Popen(command, env={**os.environ, **self.env}, stderr=subprocess.DEVNULL)
            until("podman's socket", (self.folder / "api.sock").exists, 10)
            threading.Thread(target=self._pump_health, name="health", daemon=True).start()

    def _pump_health(self) -> None:
        """podman leaves the timers of healthchecks to systemd: without it, run the broker's by hand for ever."""
        while not self._closing.wait(2.0):
            named = self.run("ps", "-q", "--filter", f"name={self.project}_redis_", check=False)
            for container in named.split():
                self.run("healthcheck", "run", container, check=False)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def kill_inside(self, container: str) -> None:
        """SIGKILL to its first process, as the kernel does when memory is short: the restart policy applies, which it
        does not after `kill` of the engine."""
        as_root = () if os.geteuid() == 0 else ("sudo", "-n")
        sh(*as_root, "kill", "-KILL", self.run("inspect", "-f", "{{.State.Pid}}", container).strip())

    def network(self, name: str) -> str:
        """The engine's name of a network of the compose file."""
        return f"{self.project}_{name}"

    def admin(self, container: str, path: str) -> str:
        """What a container's admin port answers, asked from inside."""
        url = f"http://127.0.0.1:{ADMIN_PORT}{path}"
        code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=3).read().decode())"
        return self.run("exec", container, "python", "-c", code, check=False)

    def close(self) -> None:
        self._closing.set()
        if self._api is not None:
            self._api.send_signal(signal.SIGTERM)
            self._api.wait(20)
