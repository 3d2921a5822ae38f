"""What to do when a model is wrong: which layer loses accuracy, which part fails, what changed, why a rule did not fire."""
