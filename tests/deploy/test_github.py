"""Workflows: valid, pinned by commit, least permissions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.tools import ROOT, run

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_schemas() -> None:
    names = [str(path) for path in WORKFLOWS]
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *names)
    run("check-jsonschema", "--builtin-schema", "custom.github-workflows-require-timeout", *names)
    run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


def test_zizmor_finds_nothing() -> None:
    run("zizmor", "--offline", "--no-progress", "--quiet", ".github")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_permissions_are_least(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for used in re.findall(r"uses: (.+)$", text, flags=re.M):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", used), used
    body = yaml.safe_load(text)
    assert body["permissions"] == {}
    assert all("permissions" in job for job in body["jobs"].values())


def test_every_make_verb_used_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    used: set[str] = set()
    for path in WORKFLOWS:
        for verbs in re.findall(r"\bmake ([a-z -]+)", path.read_text(encoding="utf-8")):
            used |= set(verbs.split())
    assert {"check", "test", "install"} <= used
    for verb in used:
        assert re.search(rf"^{verb}:", makefile, flags=re.MULTILINE), f"make {verb} is not in the Makefile"
