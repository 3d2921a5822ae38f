"""The truth: interpreter, oracle, contracts, data and the abstract target."""
