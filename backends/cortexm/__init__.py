"""C for Cortex-M cores and for any host."""
