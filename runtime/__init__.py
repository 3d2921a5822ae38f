"""The truth: interpreter, oracle, contracts, data, cost, and the abstract Target."""
