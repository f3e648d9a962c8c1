"""The `mbo` command and its four services: ingest, book, gateway, persist."""
