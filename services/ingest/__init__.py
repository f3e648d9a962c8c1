"""Ingest: reads one source a feed, routes records to shards, appends them exactly once.

In: a source. Out: `{feed:NN}:in`.
"""
