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


def test_actionlint_finds_nothing() -> None:
    """Expressions, contexts and outputs that exist, and the shell of `run` where shellcheck is installed."""
    run("actionlint", "-no-color", *map(str, WORKFLOWS))


def test_dependabot_looks_where_there_is_something() -> None:
    files = {
        "pip": "pyproject.toml", "docker": "Dockerfile", "docker-compose": "docker-compose.yml",
        "npm": "package.json", "github-actions": ".github/workflows",
    }  # fmt: skip
    body = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    for update in body["updates"]:
        folder = ROOT / update["directory"].strip("/")
        assert (folder / files[update["package-ecosystem"]]).exists(), update


def test_released_images_are_built_on_a_digest() -> None:
    body = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    (build,) = (
        step for step in body["jobs"]["image"]["steps"] if "build-push-action" in step.get("uses", "")
    )
    assert "PYTHON_IMAGE=${{ needs.base.outputs.image }}" in build["with"]["build-args"]
    assert re.search(
        r"^ARG PYTHON_IMAGE=\S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )


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
