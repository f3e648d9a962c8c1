"""What a request asks for that is only recorded."""

from __future__ import annotations

import pytest

from services.gateway.asked import allowed
from services.gateway.principal import Principal
from services.gateway.problems import Problem


def test_a_recorded_symbol_may_hold_colons_and_a_key_is_held_against_what_it_means() -> None:
    spread = "UD:1V: GN 2533155"
    means = [("", spread), ("ud", "1V: GN 2533155")]
    assert allowed(Principal(), spread, "trades", "history") == means
    assert allowed(Principal(symbols=("UD:*",)), spread, "trades") == means[:1]
    assert allowed(Principal(symbols=("CL*",)), "GLBX.MDP3:CLX5", "trades") == [("glbx.mdp3", "CLX5")]
    for principal in (Principal(symbols=("CL*",)), Principal(channels=("bbo",))):
        with pytest.raises(Problem, match="no access"):
            allowed(principal, spread, "trades")
