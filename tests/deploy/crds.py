"""Check custom resources on stdin (YAML) against models made from their operators' CRDs; prints what is wrong.

Run by test_kubernetes.py in an environment of its own (`uv run --with …`): the models are no dependency of ours. A
field that a CRD does not know is dropped when a model is read and written again, so both sides are compared.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

PACKAGES = ("cloudcoil-models-keda==2.16.1.0", "cloudcoil-models-prometheus-operator==0.80.1.0", "pyyaml")


def difference(given: Any, back: Any, path: str) -> list[str]:
    """Paths of what is lost or another in `back`."""
    if isinstance(given, dict) and isinstance(back, dict):
        found = [f"{path}.{name}: no such field" for name in given if name not in back]
        return found + [
            each
            for name in given
            if name in back
            for each in difference(given[name], back[name], f"{path}.{name}")
        ]
    if isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        pairs = enumerate(zip(given, back, strict=True))
        return [each for i, (one, other) in pairs for each in difference(one, other, f"{path}[{i}]")]
    return [] if given == back else [f"{path}: {given!r} is read as {back!r}"]


def main() -> int:
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

    models = {model.__name__: model for model in (ScaledObject, PodMonitor, PrometheusRule)}
    checked = 0
    for each in yaml.safe_load_all(sys.stdin):
        if model := models.get(each["kind"]):
            checked += 1
            back = model.model_validate(each).model_dump(by_alias=True, exclude_none=True, mode="json")
            for wrong in difference(each, back, f"{each['kind']} {each['metadata']['name']}"):
                print(wrong)
    print(f"{checked} checked", file=sys.stderr)
    return 0 if checked else 1


if __name__ == "__main__":
    sys.exit(main())
