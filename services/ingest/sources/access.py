"""How to reach Databento: the API key, which is never logged, and the gateway's address."""

from __future__ import annotations

import os

from services.ingest.sources.options import SourceOptions
from shared.errors import UsageError

DEFAULT_PORT = 13000


def read_key(options: SourceOptions) -> str:
    """The API key, from --key-file or DATABENTO_API_KEY; UsageError if there is none."""
    if options.key_file is not None:
        try:
            key = options.key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"--key-file {options.key_file}: {error.strerror}") from None
    else:
        key = os.environ.get("DATABENTO_API_KEY", "").strip()
    if not key:
        raise UsageError("Databento needs an API key: set DATABENTO_API_KEY or --key-file")
    return key


def live_address(options: SourceOptions) -> tuple[str, int]:
    """(host, port) of --gateway, or of Databento's own gateway of the dataset."""
    if not options.gateway:
        return f"{options.dataset.lower().replace('.', '-')}.lsg.databento.com", DEFAULT_PORT
    host, _, port = options.gateway.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--gateway {options.gateway}: give host:port")
    return host, int(port)
