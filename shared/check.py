"""`--check` without the service: a health check every few seconds must not pay for the imports of an engine."""

from __future__ import annotations

import os
import sys
from typing import Any

from shared import runner, settings


def check_only(cls: type[Any], prog: str) -> int | None:
    """The exit status of `--check` if that is what was asked for, else None. Raises UsageError."""
    if "--check" not in sys.argv[1:]:
        return None
    config, _ = settings.load(cls, sys.argv[1:], os.environ, prog=prog, description="")
    return runner.check(config)
