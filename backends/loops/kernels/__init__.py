"""The kernels of the loop language, a family in each file."""
