"""`mbo ingest`, `mbo-ingest` and `python -m services.ingest`."""

import sys
from collections.abc import Sequence

from services.ingest.settings import IngestSettings
from shared.runner import Service, service_main


def make(config: IngestSettings) -> Service:
    from services.ingest.service import IngestService  # late: `--check` does without

    return IngestService(config)


def main(argv: Sequence[str] | None = None) -> int:
    about = "Read a source and append its records to the feed's streams, exactly once."
    return service_main("mbo ingest", about, IngestSettings, make, argv)


if __name__ == "__main__":
    sys.exit(main())
