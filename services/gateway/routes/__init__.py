"""REST routes, one noun a file; `table.py` of the parent lists them for both Starlette and OpenAPI."""
