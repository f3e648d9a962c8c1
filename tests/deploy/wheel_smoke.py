"""Build the wheel, install it in a clean venv, run the commands, find the data files.

Run as `python -m tests.deploy.wheel_smoke`.

An editable install hides packaging faults; this finds them. The clean venv sees the locked packages of the
development venv through a .pth file, so that nothing is downloaded again.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    ("mbo", "--help"),
    ("mbo", "--version"),
    *((f"mbo-{s}", "--help") for s in ("ingest", "book", "gateway", "persist")),
)
DATA_FILES = (
    "services/gateway/static/index.html",
    "services/persist/schema/0001_store.sql",
    "shared/broker.conf",
    "shared/wire/scripts/append.lua",
    "shared/wire/schemas/snapshot.json",
)


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"wheel smoke: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(folder),
            str(ROOT),
            cwd=ROOT,
        )
        wheel = next(folder.glob("*.whl"))
        venv.create(folder / "venv", with_pip=False)
        site = next((folder / "venv" / "lib").glob("python*/site-packages"))
        run(
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(site),
            str(wheel),
            cwd=folder,
        )
        packages = sysconfig.get_paths()["purelib"]
        # Only the dependencies: the editable install's own .pth is not followed from here.
        (site / "dependencies.pth").write_text(packages + "\n", encoding="utf-8")
        python = folder / "venv" / "bin" / "python"
        for command, *args in COMMANDS:
            script = site / "bin" / command
            text = run(str(python), str(script), *args, cwd=folder)
            if not text.strip():
                sys.exit(f"wheel smoke: {command} {' '.join(args)} said nothing")
        for path in DATA_FILES:
            if not (site / path).is_file():
                sys.exit(f"wheel smoke: {path} is not in the wheel")
        where = run(str(python), "-c", "import services; print(services.__file__)", cwd=folder).strip()
        if not where.startswith(str(site)):
            sys.exit(f"wheel smoke: imported {where}, not the installed wheel")
    print(f"wheel smoke: {len(COMMANDS)} commands and {len(DATA_FILES)} data files are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
