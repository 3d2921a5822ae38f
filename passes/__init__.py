"""The ways through: one file per idea, pipelines and translation validation."""
