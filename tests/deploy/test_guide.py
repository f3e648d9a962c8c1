"""The guide names only options, variables, verbs and files that exist."""

from __future__ import annotations

import dataclasses
import re

import pytest

from services.up import UpSettings
from tests.deploy.generate import SERVICES, VARIABLE
from tests.deploy.tools import ROOT

GUIDE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
OTHERS = {  # of docker compose, kubectl, jq, gh and our own modules
    "scale", "rm", "profile", "no-log-prefix", "from-file", "arg", "argjson", "owner", "json", "out", "rotate",
    "secrets", "stand-ins", "data", "day",
}  # fmt: skip


def test_options_exist() -> None:
    classes = (*SERVICES.values(), UpSettings)
    known = {field.name.replace("_", "-") for each in classes for field in dataclasses.fields(each)}
    named = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", GUIDE))
    assert named - known - OTHERS == set()


def test_variables_exist() -> None:
    known = {name for name, _ in VARIABLE.findall(COMPOSE)}
    named = {
        name
        for name in re.findall(r"`([A-Z]+_[A-Z_]+)=?[^`]*`", GUIDE)
        if not name.startswith(("MBO_", "F_"))
    }
    assert named
    assert named <= known


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"`((?:k8s|monitoring|shared|tests|overlays|components)/[\w./-]+\w)`", GUIDE))),
)
def test_files_exist(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "k8s" / path).exists(), path


def test_make_verbs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in set(re.findall(r"`make ([a-z-]+)`", GUIDE)):
        assert re.search(rf"^{verb}:", makefile, flags=re.MULTILINE), verb
