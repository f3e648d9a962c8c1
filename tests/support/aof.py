"""What a power loss does to a server's log."""

from __future__ import annotations

import os
from pathlib import Path


def cut_log(folder: Path, size: int) -> bool:
    """Cut at most `size` bytes off the newest AOF file of a server that is down, as a power loss may; False if none."""
    files = sorted((folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    if not files:
        return False
    has = files[-1].stat().st_size
    os.truncate(files[-1], has - min(has, size))
    return True
