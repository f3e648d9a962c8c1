"""`mbo persist`, `mbo-persist` and `python -m services.persist`."""

import sys
from collections.abc import Sequence

from services.persist.settings import PersistSettings
from shared.runner import Service, service_main


def make(config: PersistSettings) -> Service:
    from services.persist.service import PersistService  # late: `--check` does without

    return PersistService(config)


def main(argv: Sequence[str] | None = None) -> int:
    about = "Record every feed to SQLite and serve its history."
    return service_main("mbo persist", about, PersistSettings, make, argv)


if __name__ == "__main__":
    sys.exit(main())
