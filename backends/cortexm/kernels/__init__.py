"""The C kernels, each beside the op it implements."""
