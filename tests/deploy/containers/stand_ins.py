"""Images of Debian packages under the names of the real ones, for a machine that reaches no registry.

Grafana is in no Debian package: its part of the profile runs with `--engine docker` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.deploy.containers.shell import say, sh

if TYPE_CHECKING:
    from tests.deploy.containers.engine import Engine

DEBIAN = "localhost/mbo-debian"
INCLUDE = "ca-certificates,python3,python3-venv,python3-pip"
NOBODY = 65534
TEXTS = {
    "docker.io/library/python:3.11-slim": """
RUN ln -sf /usr/bin/python3 /usr/local/bin/python \\
 && ln -sf /usr/bin/pip3 /usr/local/bin/pip && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
""",
    "docker.io/library/redis:7.4-bookworm": """
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null \\
 && usermod -u 999 redis && groupmod -g 999 redis && install -d -o 999 -g 999 /data
""",
    "docker.io/library/caddy:2.10-alpine": """
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends caddy >/dev/null
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
""",
    "docker.io/prom/prometheus:v3.5.0": f"""
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus >/dev/null \\
 && install -d -o {NOBODY} -g {NOBODY} /prometheus
USER {NOBODY}:{NOBODY}
ENTRYPOINT ["prometheus"]
""",
    "docker.io/prom/alertmanager:v0.28.1": f"""
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus-alertmanager >/dev/null \\
 && install -d -o {NOBODY} -g {NOBODY} /alertmanager
USER {NOBODY}:{NOBODY}
ENTRYPOINT ["prometheus-alertmanager"]
""",
}


def make(engine: Engine) -> None:
    """What is there already stays as it is."""
    if not engine.run("image", "ls", "-q", DEBIAN).strip():
        tar = engine.folder / "debian.tar"
        sh("mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDE}", "bookworm", str(tar))
        engine.run("import", "-q", str(tar), DEBIAN)
        tar.unlink()
    for tag, text in TEXTS.items():
        if not engine.run("image", "ls", "-q", tag).strip():
            file = engine.folder / "Standin"
            file.write_text(f"FROM {DEBIAN}{text}", encoding="utf-8")
            engine.build(file, tag, None, engine.folder)
    say("stand-ins for the base images are there")
