"""Ways out: targets, code generators, memory planning."""
