"""The ways out: memory planning and one package per family of targets."""
