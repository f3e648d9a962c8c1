"""docker-compose.yml from `up` to `stop`: data flows, scale, a killed worker, a restarted broker; then its profiles."""

from __future__ import annotations

import json
import re
import time

from tests.deploy.containers import watcher
from tests.deploy.containers.engine import PORT, Engine
from tests.deploy.containers.probes import all_owned_without, feeds, get, grows, instruments, owners, stored
from tests.deploy.containers.shell import say, until
from tests.deploy.generate import ROOT, SERVICES

STREAM = f"http://127.0.0.1:{PORT}/v1/stream?symbols=ALL_SYMBOLS&channels=book&depth=10"
WATCH_S = 75.0
KEY = "db-0123456789abcdefghijklmnopqrs"
DATASET = "SIM.MBO"
GATEWAY = "fake-databento"


def pipeline(engine: Engine) -> None:
    """Simulated data; then the pipeline is pulled about, and a client must not notice."""
    start = time.monotonic()
    engine.compose("up", "-d", "--no-build")
    until("proxy answers with instruments", instruments, 180)
    until("records are committed", grows(), 120)
    say(f"from `up` to books over HTTP: {time.monotonic() - start:.1f} s")
    _services_are_well(engine)

    client = watcher.start(STREAM, WATCH_S)
    engine.compose("up", "-d", "--no-build", "--scale", "book=4", "--scale", "gateway=2")
    until("4 workers own shards", lambda: len(owners()) == 4)
    until("2 gateways run", lambda: len(engine.containers("gateway")) == 2)
    until("records go on", grows())

    crashed = engine.containers("book")[1]
    worker = json.loads(engine.admin(crashed, "/readyz"))["worker"]
    engine.kill_inside(crashed)
    until("a worker that crashed is back, and owns shards", lambda: len(owners() - {worker}) == 4)

    victim = engine.containers("book")[0]
    worker = json.loads(engine.admin(victim, "/readyz"))["worker"]
    engine.run("kill", "--signal", "KILL", victim)
    until("the killed worker's shards have other owners", lambda: all_owned_without({worker}))
    until("records go on", grows())

    engine.compose("restart", "redis")
    until("records go on after the restart of Redis", grows(), 120)

    seen = watcher.result(client)
    say(f"a client over all of this: {json.dumps(seen)}")
    assert seen["broken"] == 0, "a delta came that did not follow what the client had"
    assert seen["counts"]["delta"] > 100

    status = engine.compose("run", "--rm", "-T", "tools", "status", check=False)
    assert "session" in status, status
    _observability(engine)
    _stop(engine, victim)


def _services_are_well(engine: Engine) -> None:
    """Healthchecks pass, and no service compiled a kernel: all came with the image."""
    for service in SERVICES:
        for container in engine.containers(service):
            check = engine.run("exec", container, f"mbo-{service}", "--check", check=False)
            assert '"ready": true' in check, f"{service} is not ready: {check}"
    say("healthchecks of all services pass (`--check`)")
    for service in SERVICES:
        listed = engine.run(
            "exec", engine.containers(service)[0], "sh", "-c",
            "cd /tmp/numba 2>/dev/null && find . -name '*.nbc'; echo --; cd /opt/app/jit && find . -name '*.nbc'",
        )  # fmt: skip
        used, made = (set(part.split()) for part in listed.split("--", 1))
        assert not used - made, f"{service} compiled {used - made}: services/warm.py must meet them"
        say(f"{service}: {len(used)} kernels copied from the image's {len(made)}, none compiled")


def _observability(engine: Engine) -> None:
    """The profile beside the running pipeline. There is no stand-in for Grafana: with podman it is left out."""
    names = ["prometheus", "alertmanager"] + ["grafana"] * (engine.name == "docker")
    engine.compose("--profile", "observability", "up", "-d", "--no-build", "--no-deps", *names)
    port = int(engine.env["PROMETHEUS_PORT"])
    running = sum(len(engine.containers(service)) for service in SERVICES)

    def up() -> int:
        targets = ((get("/api/v1/targets", port) or {}).get("data") or {}).get("activeTargets", ())
        return sum(each["health"] == "up" for each in targets)

    # The container of the killed worker is still listed, and has no address.
    until(
        f"Prometheus scrapes {running - 1} containers that it found by DNS, and itself",
        lambda: up() == running,
        90,
    )
    groups = get("/api/v1/rules", port)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    until(
        f"all {len(rules)} rules are evaluated",
        lambda: all(
            rule["health"] == "ok"
            for group in get("/api/v1/rules", port)["data"]["groups"] for rule in group["rules"]
        ), 60,
    )  # fmt: skip
    until(
        "Prometheus found Alertmanager, and its watchdog arrived there",
        lambda: any(a["labels"]["alertname"] == "MboWatchdog"
                    for a in get("/api/v2/alerts", int(engine.env["ALERTMANAGER_PORT"])) or ()), 60,
    )  # fmt: skip
    if "grafana" in names:
        grafana = int(engine.env["GRAFANA_PORT"])
        until(
            "Grafana has its 5 dashboards",
            lambda: len(get("/api/search?type=dash-db", grafana) or ()) == 5,
            90,
        )


def _stop(engine: Engine, killed: str) -> None:
    """Everything ends with status 0, but for the worker that was killed."""
    start = time.monotonic()
    engine.compose("stop")
    listed = engine.run(
        "ps", "-a", "--filter", f"name={engine.project}", "--format", "{{.ID}} {{.Names}} {{.Status}}"
    )
    say(f"stopped in {time.monotonic() - start:.1f} s")
    bad = []
    for line in listed.splitlines():
        if (
            not re.search(r"[_-](ingest|book|gateway|persist|redis)[_-]\d+ ", line)
            or line[:12] == killed[:12]
        ):
            continue
        say("  " + line.partition(" ")[2])
        if "Exited (0)" not in line:
            bad.append(line)
    assert not bad, f"did not end well: {bad}"


def live(engine: Engine) -> None:
    """Profile live against a gateway that speaks Databento's protocol (tests/support/fake_live_gateway) in a container
    of its own on the outside network: the key from its file, snapshot, records, journal, resuming after a kill."""
    folder = engine.folder / "live"
    folder.mkdir()
    key = folder / "key"
    key.write_text(KEY, encoding="utf-8")
    for path in (engine.folder, folder, key):
        path.chmod(0o755)  # the container's user is another
    options = ("--gateway", f"{GATEWAY}:13000")
    engine.env |= {
        "DATABENTO_KEY_FILE": str(key), "DATABENTO_DATASET": DATASET, "DATABENTO_SYMBOLS": "ALL_SYMBOLS",
        "DATABENTO_STYPE_IN": "raw_symbol", "INGEST_OPTIONS": " ".join(options),
    }  # fmt: skip
    compose = ("--profile", "live", "up", "-d", "--no-build", "--scale", "ingest=0")
    engine.compose(*compose)
    market = "/tmp/market.dbn"
    script = (
        f"mbo simulate {market} --instruments 32 --messages 400000 --seed 1 >/dev/null && "
        f"(sleep 3600 | python -m tests.support.fake_live_gateway {market} --rate 3000 --host 0.0.0.0 --key {KEY})"
    )
    engine.run(
        "run", "-d", "--rm", "--name", f"{engine.project}-databento", "--network", engine.network("outside"),
        "--network-alias", GATEWAY, "-v", f"{ROOT / 'tests'}:/opt/tests-of-mbo/tests:ro",
        "-e", "PYTHONPATH=/opt/app:/opt/tests-of-mbo", "mbostream-ingest:dev", "sh", "-c", script,
    )  # fmt: skip
    try:
        until("live: records are committed", grows(), 120)
        (feed,) = feeds()
        say(f"live: feed {feed['feed']}, session {feed['session']}, {len(instruments())} instruments")
        journal = "ls -l /data/journal/* | wc -l; du -sk /data"
        say(
            f"live: journal {engine.run('exec', engine.containers('ingest-live')[0], 'sh', '-c', journal).split()}"
        )
        engine.compose("--profile", "live", "kill", "-s", "SIGKILL", "ingest-live")
        engine.compose(*compose)
        until("live: records go on after a kill of ingest", grows(5000), 120)
        assert [each["session"] for each in feeds()] == [feed["session"]], "a new session began"
        until("live: persist has stored records", lambda: stored() > 10_000, 120)
    finally:
        engine.run("rm", "-f", f"{engine.project}-databento", check=False)
