"""Self-contained C for Cortex-M, and portable C for any host."""
