"""`entry`: a function of the kernel that Python calls, compiled for its signatures and kept in numba's cache.

numba compares the time of the one file an entry stands in. Its code comes from all files of this package and from
constants of two more, so a stale kernel could go on in silence; here the times and sizes of all of them count.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as nb

_HERE = Path(__file__).resolve().parent
_SOURCES = (*sorted(_HERE.glob("*.py")), _HERE.parent / "records.py", _HERE.parent / "units.py")


def stamp() -> tuple[tuple[float, int], ...]:
    """Time and size of every source of the kernel."""
    return tuple((found.st_mtime, found.st_size) for found in map(Path.stat, _SOURCES))


def entry(*signatures: Any) -> Callable[[Callable[..., Any]], Any]:
    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher: Any = nb.njit(cache=True, nogil=True)(function)
        dispatcher._cache._cache_file._source_stamp = stamp()
        for signature in signatures:
            dispatcher.compile(signature)
        dispatcher.disable_compile()
        return dispatcher

    return compiled
