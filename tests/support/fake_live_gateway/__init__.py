"""A fake of Databento's live gateway: the real protocol, replaying DBN files, misbehaving on command.

By hand: `python -m tests.support.fake_live_gateway FILE.dbn... --rate 1000 --port 13000`, then commands on stdin
(`help` lists them). In tests: `with FakeGateway(records, symbols) as gateway: ... gateway.address`.
"""

from tests.support.fake_live_gateway.gateway import KEY, FakeGateway

__all__ = ["KEY", "FakeGateway"]
