"""The reader process beside persist: one that cannot be started is tried again, and recording goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.persist import process
from services.persist.process import ReaderProcess
from services.persist.settings import PersistSettings
from tests.support import eventually


@pytest.mark.parametrize("fails_at", ["fork", "its first line"])
def test_a_reader_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    monkeypatch.setattr(process, "BACKOFF_FIRST_S", 0.01)
    real = subprocess.Popen
    tries = 0

    def popen(command: list[str], **options: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries > 1:
            return real(
                [sys.executable, "-c", "print('http://here', flush=True); input(); input()"], **options
            )
        if fails_at == "fork":
            raise BlockingIOError("Resource temporarily unavailable")
        died = real([sys.executable, "-c", ""], **options)
        died.wait()
        return died

    monkeypatch.setattr(subprocess, "Popen", popen)
    reader = ReaderProcess(PersistSettings(data=str(tmp_path)))

    def is_up() -> bool:
        reader.watch()
        return reader.url == "http://here"

    eventually(is_up)
    reader.close()
    assert tries == 2
