"""The journal of a live source when its disk fails."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from services.ingest.sources.journal import Journal, Saved
from services.ingest.sources.resume import Tracker
from shared.errors import SourceError
from tests.support.mbo import random_rows


def test_a_full_disk_is_said_once_and_closing_is_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "TEST.SET", 2**30)
    journal.begin_segment(Saved(0, Tracker().state(), {}))
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        journal.write(random_rows(50))
        with pytest.raises(SourceError, match="free the disk or set --data"):
            journal.flush()
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    journal.close()
