"""The order-book engine: pure arrays in, arrays out; no I/O, clock, log or metric."""
