"""A container finds the kernels of its image although its root cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.deploy.tools import ROOT

FUNCTION = """
import sys
from pathlib import Path
import shared.jit_cache
shared.jit_cache.SEED = Path(sys.argv[1])
from shared.dbn import split
print(split._split.stats.cache_path)
"""


def _compile(locators: str, cache: Path, seed: Path) -> str:
    env = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(cache),
        "NUMBA_CACHE_LOCATOR_CLASSES": locators,
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", FUNCTION, str(seed)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


def test_the_images_cache_is_copied_once_to_a_writable_place(tmp_path: Path) -> None:
    seed, cache = tmp_path / "seed", tmp_path / "tmpfs" / "numba"
    made = Path(_compile("UserProvidedCacheLocator", seed, seed))
    assert made.parent == seed
    (made / "from-the-image").touch()
    used = Path(_compile("shared.jit_cache.SeededLocator", cache, seed))
    assert used == cache / made.name
    assert (used / "from-the-image").exists()
    assert [path.name for path in cache.iterdir()] == [made.name], "no staging folder is left"


def test_without_an_image_it_is_numbas_own_cache(tmp_path: Path) -> None:
    used = Path(_compile("shared.jit_cache.SeededLocator", tmp_path / "numba", tmp_path / "no-seed"))
    assert used.parent == tmp_path / "numba"
    assert used.is_dir()
