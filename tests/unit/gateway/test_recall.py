"""The gateway's side of the recall worker."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from services.gateway.limits import Limits
from services.gateway.recall import Recaller, Worker
from services.gateway.settings import GatewaySettings


def test_who_goes_before_the_answer_leaves_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> bytes:
        hung_up = asyncio.get_running_loop().create_future()
        asked = asyncio.Event()

        async def worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            asked.set()
            hung_up.set_result(await reader.read())
            writer.close()

        async def connect(_: Worker) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            connections.append(await asyncio.open_unix_connection(tmp_path / "s"))
            return connections[-1]

        connections: list[
            tuple[asyncio.StreamReader, asyncio.StreamWriter]
        ] = []  # kept: no collector hangs up for us
        monkeypatch.setattr(Worker, "connect", connect)
        settings = GatewaySettings()
        async with await asyncio.start_unix_server(worker, tmp_path / "s"):
            asking = asyncio.ensure_future(Recaller(settings, Limits(settings)).ask({"what": "recorded"}))
            await asked.wait()
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            return await asyncio.wait_for(hung_up, 5)

    assert asyncio.run(scene()) == b""
