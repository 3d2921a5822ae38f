"""Ways in: importers to the IR."""
