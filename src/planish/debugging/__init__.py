"""What to do when a model is wrong: the layer that loses accuracy, the part that fails, what changed."""
