"""The ops, a few related ones to a file, listed here by hand."""
