"""A folder held by one process at a time: an flock, which the kernel takes back whatever happens to its owner."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from shared.errors import UsageError


def hold(path: Path, in_use: str) -> IO[str]:
    """Hold lock file `path` until the result is closed or this process ends.

    UsageError if its folder cannot be written, or, with `in_use` (`{pid}` in it: the owner's), if another has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held open for the process's life
    except OSError as error:
        raise UsageError(
            f"data folder {path.parent}: {error.strerror}; choose another with --data"
        ) from error
    handle.seek(0)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise UsageError(in_use.format(pid=owner)) from None
    handle.truncate()
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
