"""The NPU: an instruction set, machines described by data, and what executes, checks and measures programs."""
