"""The ways in: one package or module per source of models."""
