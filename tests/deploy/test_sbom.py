"""`make sbom` says exactly what the lock installs; its check notices when it does not."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from tests.deploy import sbom


@pytest.mark.slow
def test_the_sbom_is_valid_and_names_exactly_the_locked_packages(tmp_path: Path) -> None:
    file = tmp_path / "sbom.cdx.json"
    sbom.make(file)
    body = json.loads(file.read_text(encoding="utf-8"))
    assert sbom.problems(body) == []
    assert body["specVersion"] == "1.6"

    spoilt = copy.deepcopy(body)
    gone = spoilt["components"].pop()
    assert any(gone["name"].lower() in each for each in sbom.problems(spoilt))
    spoilt = copy.deepcopy(body)
    del spoilt["components"][0]["licenses"]
    assert any("licence" in each for each in sbom.problems(spoilt))
