"""The page's modules, tested by node's own test runner (`node --test tests/unit/page`)."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.browser
def test_every_module_test_passes() -> None:
    node = shutil.which("node")
    assert node, "node is not installed: `make browser`"
    run = subprocess.run(
        [node, "--test", *map(str, sorted(HERE.glob("*.test.mjs")))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
