"""Where records come from; base.py is the contract, one module a kind of source."""
