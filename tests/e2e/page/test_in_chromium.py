"""The page in a real browser, on the fake gateway: `npm test` here, one pytest case a file.

With BASE_URL in the environment the same files run on that gateway (README of services/gateway/static).
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(path.name for path in HERE.glob("*.test.mjs"))


@pytest.mark.browser
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FILES)
def test_page(name: str) -> None:
    node, chromium = shutil.which("node"), os.environ.get("CHROMIUM", "/usr/bin/chromium")
    assert node, "node is not installed: `make browser`"
    assert Path(chromium).exists(), "no Chromium: `make browser`, or name one in CHROMIUM"
    assert (HERE / "node_modules").is_dir(), "`npm ci` in tests/e2e/page first: `make browser`"
    run = subprocess.run(
        [node, "--test", "--test-concurrency=1", name], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
