"""Persist: records every feed to SQLite and serves history.

In: `{feed:NN}:in` and `:back`. Out: DATA/store/<feed>.sqlite, the field `persist` of `{feed:NN}:pos`, the internal
history API (README.md) advertised in `{mbo}:history`.
"""
