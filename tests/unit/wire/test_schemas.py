"""Every schema is valid, holds an example that passes, and refuses a member it does not name."""

from __future__ import annotations

import copy
import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from shared.wire import schemas

NAMES = (*schemas.SSE_EVENTS, *schemas.REST_ANSWERS)


@pytest.mark.parametrize("name", NAMES)
def test_examples_pass_and_strangers_are_refused(name: str) -> None:
    schema = schemas.load(name)
    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    assert schema["examples"]
    for example in schema["examples"]:
        schemas.validator(name).validate(example)
        stranger = copy.deepcopy(example) | {"amount": 1}
        assert not schemas.validator(name).is_valid(stranger)
        for member in example:
            if member in schema.get("required", ()):
                assert not schemas.validator(name).is_valid({k: v for k, v in example.items() if k != member})


def test_every_file_is_listed() -> None:
    present = {entry.name for entry in (files("shared.wire") / "schemas").iterdir()}
    assert present == {f"{name}.json" for name in (*NAMES, "common")}


@pytest.mark.parametrize("text", ["65.40x", "1e5", "065", "1.", ".5", "1.0000000001"])
def test_a_price_is_an_exact_decimal(text: str) -> None:
    event = json.loads(json.dumps(schemas.load("delta")["examples"][0]))
    event["bids"] = [[text, 1, 1]]
    assert not schemas.validator("delta").is_valid(event)
