"""The wire format between services: entry codec, key names, SSE and REST schemas. See README.md here."""
