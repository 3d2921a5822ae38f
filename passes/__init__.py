"""Ways through: graph transformations and pipelines."""
