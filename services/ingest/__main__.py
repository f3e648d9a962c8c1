"""`python -m services.ingest` and `mbo-ingest`."""

import sys

from services.ingest.settings import IngestSettings
from shared.check import check_only
from shared.runner import guarded


def run() -> int:
    status = check_only(IngestSettings, "mbo ingest")
    if status is not None:
        return status
    from services.ingest import service

    return service.main()


def main() -> int:
    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
