"""A market simulator: price-time matching engines, agents that trade on them, and the MBO feed they would
send.

`market.py` says what is traded, `state.py` holds everything that changes, `matching.py` is the exchange,
`agents.py` the traders, `calendar.py` the trading day, `simulation.py` runs them. Kernels are numba; equal
specs give equal feeds.
"""
