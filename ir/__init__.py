"""The language: types, graph, ops, constant evaluation, ranges, text, verifier and rewriting."""
