"""How compilers are told about generated C, and about the harness that runs it."""

from __future__ import annotations

OPTIMIZATION = "-O3"

# -ffp-contract=off: a fused multiply-add rounds once where the reference rounds twice.
MODEL_FLAGS = ("-std=c99", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror")

# The harness uses inline assembly, and must not call libc: what the linker takes from libraries is then the model's.
HARNESS_FLAGS = ("-std=gnu99", "-O2", "-ffunction-sections", "-fdata-sections", "-fno-tree-loop-distribute-patterns")
HARNESS_WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
