"""A board as a target: C for its core, and never more memory than it has."""

import planish.extending as px

RAM, FLASH = 128 << 10, 512 << 10


class Nucleo(px.CortexMTarget):
    """C for NUCLEO-F411RE, a Cortex-M4 with 128 KiB of RAM and 512 KiB of flash; run under QEMU."""

    def __init__(self, name):
        super().__init__("cortex-m4")
        self.name, self.summary = name, "C99 for NUCLEO-F411RE (128 KiB RAM, 512 KiB flash), run under QEMU"

    def emit(self, graph, out, name, limits):
        ram = RAM if limits.ram is None else min(RAM, limits.ram)
        flash = FLASH if limits.flash is None else min(FLASH, limits.flash)
        return super().emit(graph, out, name, px.Limits(ram, flash))
