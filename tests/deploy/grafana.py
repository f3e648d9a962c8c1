"""Read dashboards (JSON by name on stdin) with Grafana's own model, from its SDK; prints what it does not know.

Run by test_monitoring.py in an environment of its own, as crds.py is. The model knows dashboards, the options of a
timeseries panel and the query of a Prometheus data source.
"""

from __future__ import annotations

import json
import sys

from tests.deploy.crds import difference

PACKAGES = ("grafana-foundation-sdk==1769699998!10.1.0", "pyyaml")


def main() -> int:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    boards = json.load(sys.stdin)
    for name, board in boards.items():
        back = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
        for wrong in difference(board, back, name):
            print(wrong)
    print(f"{len(boards)} checked", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
