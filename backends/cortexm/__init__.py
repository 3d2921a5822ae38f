"""C for Cortex-M cores: kernels for those with the DSP extension, and emulated boards."""
