"""Kill everything at random times; at the end everything is there once. `make chaos`, `python -m tests.chaos`."""
