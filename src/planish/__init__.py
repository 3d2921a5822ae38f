"""A compiler for neural networks that must fit small machines."""
