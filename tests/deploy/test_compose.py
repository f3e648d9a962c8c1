"""docker-compose.yml: valid, hardened, and its settings are the services' own."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from services.broker_users import USERS
from shared import settings
from tests.deploy.generate import SERVICES, VARIABLE
from tests.deploy.tools import ROOT, run

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
OURS = {
    "ingest": "ingest",
    "ingest-live": "ingest",
    "book": "book",
    "gateway": "gateway",
    "persist": "persist",
}


def _filled() -> dict[str, Any]:
    """The file with every variable at its default, as `docker compose config` would fill it in."""
    text = re.sub(r"\$\$", "\0", VARIABLE.sub(lambda found: found.group(2) or "", TEXT))
    return yaml.safe_load(text.replace("\0", "$"))  # type: ignore[no-any-return]


COMPOSE = _filled()


def test_schema_of_the_compose_specification() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_compose_lint_finds_nothing_of_weight() -> None:
    run("compose-lint", "docker-compose.yml")


@pytest.mark.parametrize("name", sorted(OURS))
def test_service_accepts_its_environment_and_options(name: str) -> None:
    service, role = COMPOSE["services"][name], OURS[name]
    image = {"MBO_ADMIN_HOST": "0.0.0.0", "MBO_ADMIN_PORT": "9090"}
    program, *options = shlex.split(service["command"])
    assert program == f"mbo-{role}"
    loaded, _ = settings.load(
        SERVICES[role], options, {**image, **service["environment"]}, prog=program, description=""
    )
    assert loaded.broker == f"redis://{role}@redis:6379/0"
    assert loaded.broker_password_file == f"/secrets/{role}/password"
    assert f"secret-{role}:/secrets/{role}:ro" in service["volumes"]


def test_every_broker_user_has_a_volume_for_its_password() -> None:
    for user in USERS:
        assert f"secret-{user.name}" in COMPOSE["volumes"]
        assert f"secret-{user.name}:/secrets/{user.name}" in COMPOSE["services"]["init"]["volumes"]


def test_services_can_be_scaled() -> None:
    for name in OURS:
        assert "container_name" not in COMPOSE["services"][name]
        assert "ports" not in COMPOSE["services"][name], "a published port can be had once"


def test_everything_is_hardened_and_limited() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["mem_limit"], name
        assert service["cpus"], name
        assert service["pids_limit"], name


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_only_live_ingest_and_what_is_published_reach_the_outside() -> None:
    assert COMPOSE["networks"]["pipeline"] == {"internal": True}
    outside = {name for name, service in COMPOSE["services"].items() if "outside" in service["networks"]}
    assert outside == {"ingest-live", "proxy", "prometheus", "alertmanager", "grafana"}


def test_services_start_once_the_broker_is_healthy() -> None:
    for name in OURS:
        assert COMPOSE["services"][name]["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert COMPOSE["services"]["redis"]["depends_on"]["init"] == {
        "condition": "service_completed_successfully"
    }


def test_the_broker_runs_with_the_one_settings_file() -> None:
    assert "./shared/broker.conf:/etc/mbo/broker.conf:ro" in COMPOSE["services"]["redis"]["volumes"]
    assert (ROOT / "shared" / "broker.conf").is_file()


def test_profiles() -> None:
    found = {profile for service in COMPOSE["services"].values() for profile in service.get("profiles", ())}
    assert found == {"live", "observability", "tools"}


def test_prometheus_scrapes_every_service() -> None:
    scrape = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text(encoding="utf-8"))[
        "scrape_configs"
    ]
    names = {name for job in scrape for sd in job.get("dns_sd_configs", ()) for name in sd["names"]}
    assert names == set(OURS)
    assert all(sd["port"] == 9090 for job in scrape for sd in job.get("dns_sd_configs", ()))
