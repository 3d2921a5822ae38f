"""The loop language: what kernels and elementwise ops compute, written once, rendered as C99 or as TIR."""
