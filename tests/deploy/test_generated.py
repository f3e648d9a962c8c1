"""Files that are derived from the code are what the code says now."""

from __future__ import annotations

import dataclasses

import pytest

from tests.deploy.generate import ROOT, SERVICES, files


@pytest.mark.parametrize("name", sorted(files()))
def test_derived_file_is_up_to_date(name: str) -> None:
    said = (ROOT / name).read_text(encoding="utf-8")
    assert said == files()[name], f"{name} is out of date: python -m tests.deploy.generate"


def test_no_dashboard_is_left_over() -> None:
    there = {
        f"monitoring/grafana/dashboards/{p.name}" for p in (ROOT / "monitoring/grafana/dashboards").iterdir()
    }
    assert there == {name for name in files() if name.startswith("monitoring/grafana")}


def test_env_example_names_every_setting_of_every_service() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    sections = dict(zip(SERVICES, text.split("# ---- ")[1:], strict=True))
    for service, cls in SERVICES.items():
        assert sections[service].startswith(service)
        for field in dataclasses.fields(cls):
            assert f"--{field.name.replace('_', '-')} " in sections[service], f"{service}: {field.name}"
