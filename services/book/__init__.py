"""Book workers: lease shards, rebuild their books, commit exactly once.

In: `{feed:NN}:in`. Out: `{feed:NN}:out`, `{feed:NN}:img`.
"""
