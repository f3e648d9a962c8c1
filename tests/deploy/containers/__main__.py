"""The images, the compose file and the Kubernetes base for real: `make containers` (python -m tests.deploy.containers).

Builds the images; runs docker-compose.yml end to end (data flows, 4 workers and 2 gateways, a killed worker, a
restarted Redis, Prometheus and Alertmanager beside it, everything stopped); its profile `live` against a gateway that
speaks Databento's protocol; tests that use testcontainers; the Kubernetes base by `podman play kube`. Records must go
on through all of it, and a client must never get a delta that does not follow what it has.

--engine docker   any Docker with compose v2: what GitHub Actions runs; Grafana too
--engine podman   Debian's podman and docker-compose; --stand-ins, without a registry: the base images are made from
                  Debian packages. apt: podman buildah runc uidmap netavark aardvark-dns iptables catatonit
                  mmdebstrap fuse-overlayfs docker-compose
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.deploy.containers import compose, kube, stand_ins
from tests.deploy.containers.engine import Engine
from tests.deploy.containers.shell import say, sh
from tests.deploy.generate import ROOT


def socket_tests(engine: Engine) -> None:
    """The tests that use testcontainers, on this engine's Docker-compatible socket."""
    said = sh(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "tests/deploy/test_containers.py",
        env=engine.env,
        cwd=ROOT,
    )
    summary = said.strip().splitlines()[-1]
    say(f"testcontainers: {summary}")
    assert "passed" in summary, said
    assert "skipped" not in summary, said


PARTS = {"compose": compose.pipeline, "live": compose.live, "testcontainers": socket_tests, "kube": kube.play}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("podman", "docker"), default="podman")
    parser.add_argument("--stand-ins", action="store_true", help="make base images from Debian packages")
    parser.add_argument("--skip-build", action="store_true", help="take the images of the last run")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part of it")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # take everything down
    parts = (
        [args.only] if args.only else [name for name in PARTS if name != "kube" or args.engine == "podman"]
    )
    with tempfile.TemporaryDirectory(prefix="mbo-containers-") as name:
        engine = Engine(args.engine, Path(name))
        engine.snapshot()
        if args.stand_ins:
            stand_ins.make(engine)
        if not args.skip_build:
            engine.build_images()
        engine.serve_api()
        try:
            for part in parts:
                say(f"--- {part}")
                try:
                    PARTS[part](engine)
                finally:
                    engine.down()
        finally:
            engine.close()
    say(f"containers: {len(parts)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
