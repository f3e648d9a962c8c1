"""Functions that Python calls, kept compiled in numba's cache: `entry` of the kernel, `reader` of its arrays.

numba compares the time of the one file a function stands in. Its code comes from all files of this package and from
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


def reader(function: Callable[..., Any]) -> Any:
    """Compiled at its first call, for the arrays it is given."""
    dispatcher: Any = nb.njit(cache=True, nogil=True)(function)
    dispatcher._cache._cache_file._source_stamp = stamp()
    return dispatcher


def entry(*signatures: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compiled at import for its signatures, and for no other."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = reader(function)
        for signature in signatures:
            dispatcher.compile(signature)
        dispatcher.disable_compile()
        return dispatcher

    return compiled
