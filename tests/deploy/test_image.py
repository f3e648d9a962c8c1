"""The Dockerfile and what it installs agree with the code."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.deploy.generate import SERVICES
from tests.deploy.tools import ROOT, run

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {"ingest", "book", "gateway", "persist", "parquet"}


def _locked(name: str) -> dict[str, set[str]]:
    """Pinned requirement, without its marker → its hashes."""
    found: dict[str, set[str]] = {}
    line = ""
    for row in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-z0-9]", row):
            line = row.split(" ")[0]
            found[line] = set()
        elif "--hash=" in row:
            found[line].add(row.strip().rstrip(" \\"))
    return found


def _stages() -> dict[str, str]:
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_hadolint_has_nothing_to_say() -> None:
    run("hadolint", "Dockerfile")


def test_runtime_lock_is_part_of_the_lock_with_the_same_hashes() -> None:
    whole, part = _locked("requirements.lock"), _locked("requirements.runtime.lock")
    assert part
    for line, hashes in part.items():
        assert whole.get(line) == hashes, f"{line}: run `make lock`"


def test_runtime_lock_holds_everything_the_images_install() -> None:
    wanted, seen = ["mbostream"], set[str]()
    locked = {line.split("==")[0] for line in _locked("requirements.runtime.lock")}
    while wanted:
        name = wanted.pop()
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            extras = EXTRAS if name == "mbostream" else {""}
            if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                continue
            key = re.sub(r"[-_.]+", "-", needed.name).lower()
            if key != "mbostream" and key not in seen:
                seen.add(key)
                wanted.append(key)
    assert not seen - locked, "missing in requirements.runtime.lock: run `make lock`"


def test_every_service_is_a_target_that_runs_its_own_script_and_checks_itself() -> None:
    stages = _stages()
    for service in SERVICES:
        assert f'CMD ["mbo-{service}"]' in stages[service]
        assert f'CMD ["mbo-{service}", "--check"]' in stages[service]
        assert f"mbo-{service}" in PYPROJECT["scripts"]


def test_no_image_runs_as_root() -> None:
    for service in SERVICES:
        assert "USER 10001:10001" in _stages()[service]


def test_the_admin_port_is_set_so_that_check_works() -> None:
    assert "MBO_ADMIN_PORT=9090" in DOCKERFILE
    assert all("EXPOSE 9090" in _stages()[s] or "9090" in _stages()[s] for s in SERVICES)


def test_settings_of_the_image_belong_to_the_service() -> None:
    stages = _stages()
    common = set(re.findall(r"\bMBO_([A-Z_]+)=", stages["runtime"]))
    for service, cls in SERVICES.items():
        names = {name.upper() for name in cls.__dataclass_fields__}
        assert common | set(re.findall(r"\bMBO_([A-Z_]+)=", stages[service])) <= names


def test_nothing_of_the_build_context_is_missing_or_too_much() -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    }
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.M):
        copied |= set(line.split()[:-1])
    assert copied == allowed


def _imports(module: str) -> set[str]:
    """Modules imported at the top of a module of ours (not inside functions: those are for optional parts)."""
    path = ROOT / (module.replace(".", "/") + ".py")
    if not path.exists():
        path = ROOT / module.replace(".", "/") / "__init__.py"
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def _is_ours(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return module.partition(".")[0] in ("services", "shared") and (
        path.is_dir() or path.with_suffix(".py").exists()
    )


@pytest.mark.parametrize("service", SERVICES)
def test_everything_a_service_imports_is_installed_in_its_image(service: str) -> None:
    wanted, seen, outside = [f"services.{service}.__main__"], set[str](), set[str]()
    while wanted:
        module = wanted.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in _imports(module):
            if _is_ours(name):
                wanted.append(name)
            elif name.partition(".")[0] not in ("services", "shared"):
                outside.add(name.partition(".")[0])
    extras = PYPROJECT["optional-dependencies"]
    texts = [
        *PYPROJECT["dependencies"],
        *extras[service],
        *(extras["parquet"] if service == "gateway" else ()),
    ]
    installed = {re.sub(r"[-_.]+", "-", Requirement(text).name).lower() for text in texts}
    owners = metadata.packages_distributions()
    for name in sorted(outside - sys.stdlib_module_names):
        dists = {re.sub(r"[-_.]+", "-", dist).lower() for dist in owners.get(name, [name])}
        assert dists & installed, (
            f"{name} is imported but not in pyproject's dependencies or extra {service!r}"
        )
