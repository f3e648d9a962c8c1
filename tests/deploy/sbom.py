"""The software bill of materials of the images: `make sbom` (python -m tests.deploy.sbom [FILE]).

Installs requirements.runtime.lock, by hash, into an empty venv, has cyclonedx-py describe it (CycloneDX 1.6, validated
against its schema), and checks what it says: exactly the locked packages, each with a licence and a package URL, and
no dependency that is not among them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.deploy.tools import ROOT, tool

CYCLONEDX = "cyclonedx-bom[json-validation]==7.5.0"
LOCK = ROOT / "requirements.runtime.lock"
PYPROJECT = ROOT / "pyproject.toml"


def make(file: Path) -> None:
    """Write the SBOM; raises CalledProcessError with what the tool said."""
    uv = tool("uv")
    with tempfile.TemporaryDirectory(prefix="mbo-sbom-") as name:
        python = f"{name}/venv/bin/python"
        for command in (
            (uv, "venv", "--quiet", "--python", sys.executable, f"{name}/venv"),
            (uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "-r", str(LOCK)),
            (uv, "tool", "run", "--quiet", "--from", CYCLONEDX, "cyclonedx-py", "environment", "--validate",
             "--output-reproducible", "--pyproject", str(PYPROJECT), "-o", str(file), python),
        ):  # fmt: skip
            subprocess.run(command, check=True, cwd=name)


def locked() -> set[str]:
    """`name==version` of what the lock installs on this machine."""
    found = set()
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-z0-9]", line):
            wanted = Requirement(line.rstrip(" \\"))
            if wanted.marker is None or wanted.marker.evaluate():
                found.add(f"{wanted.name}{wanted.specifier}")
    return found


def problems(body: dict[str, Any]) -> list[str]:
    """What is wrong with an SBOM; nothing if it is as it should be."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    root = body["metadata"]["component"]
    found = []
    if (root["name"], root["version"]) != (project["name"], project["version"]):
        found.append(f"it is of {root['name']} {root.get('version')}")
    components = {f"{_key(each['name'])}=={each['version']}": each for each in body["components"]}
    if components.keys() != locked():
        found.append(f"not what the lock says: {sorted(components.keys() ^ locked())}")
    for name, each in components.items():
        if not each.get("licenses"):
            found.append(f"{name} names no licence")
        if not each.get("purl", "").startswith("pkg:pypi/"):
            found.append(f"{name} has no package URL")
    known = {root["bom-ref"], *(each["bom-ref"] for each in body["components"])}
    for each in body["dependencies"]:
        found += [
            f"{each['ref']} needs {ref}, which is not there"
            for ref in each.get("dependsOn", ())
            if ref not in known
        ]
    return found


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "dist/sbom.cdx.json").resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    make(file)
    body = json.loads(file.read_text(encoding="utf-8"))
    wrong = problems(body)
    for each in wrong:
        print(f"sbom: {each}", file=sys.stderr)
    version = body["specVersion"]
    print(f"{file}: CycloneDX {version}, {len(body['components'])} components, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
