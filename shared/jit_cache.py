"""Where numba finds compiled kernels in a container: made when the image was built, on a root that cannot be written.

numba only uses a cache directory it can write to. So the folder `jit` beside the packages (made by `services.warm`)
is copied, one module at a time and on first use, to NUMBA_CACHE_DIR, a tmpfs. Chosen by the Dockerfile:
`NUMBA_CACHE_LOCATOR_CLASSES=shared.jit_cache.SeededLocator`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from numba.core.caching import UserProvidedCacheLocator

SEED = Path(__file__).resolve().parents[1] / "jit"


class SeededLocator(UserProvidedCacheLocator):
    """NUMBA_CACHE_DIR, filled from SEED."""

    def ensure_cache_path(self) -> None:
        """Raises OSError where the directory cannot be made: numba then asks the next locator."""
        target = Path(self.get_cache_path())  # type: ignore[no-untyped-call]
        seed = SEED / target.name
        if not target.exists() and seed.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=target.parent))
            shutil.copytree(seed, staging / "new")
            try:
                os.rename(staging / "new", target)
            except OSError:
                if not target.is_dir():  # another process of this container was not faster: a real failure
                    raise
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        super().ensure_cache_path()  # type: ignore[no-untyped-call]
