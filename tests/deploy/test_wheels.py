"""Every locked dependency has a wheel for each platform and Python we run on: nothing is compiled. Asks the index."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT

LOCK = ROOT / "requirements.runtime.lock"
GLIBC = (17, 27, 28)  # manylinux_2_28 is the newest that Debian 12 has
NATIVE = {
    "numpy",
    "numba",
    "llvmlite",
    "hiredis",
    "uvloop",
    "apsw",
    "pyarrow",
    "zstandard",
    "orjson",
    "databento-dbn",
}


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_there_is_a_wheel_for(machine: str, python: str, tmp_path: Path) -> None:
    """pip resolves the lock for another machine: hashes are checked, nothing is installed."""
    tags = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in GLIBC)]
    report = tmp_path / "report.json"
    abis = [f"cp{python.replace('.', '')}", "abi3", "none"]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps",
        "--target", str(tmp_path / "nothing"), "--only-binary=:all:", "--require-hashes", "--implementation", "cp",
        "--python-version", python, *(arg for abi in abis for arg in ("--abi", abi)),
        *(arg for tag in tags for arg in ("--platform", tag)), "--report", str(report), "-r", str(LOCK),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "nothing").exists()
    wheels = [
        each["download_info"]["url"].rpartition("/")[2] for each in json.loads(report.read_text())["install"]
    ]
    names = {re.sub(r"[-_.]+", "-", wheel.partition("-")[0]).lower() for wheel in wheels}
    assert names >= NATIVE
    for wheel in wheels:
        assert wheel.endswith(("-any.whl", f"{machine}.whl")), wheel
