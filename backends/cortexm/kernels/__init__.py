"""Which kernels each core asks, in order: the first that accepts a group is taken."""

from __future__ import annotations

from collections.abc import Mapping

from ...c.target import KERNELS as PORTABLE
from ...kernel import Kernel
from .depthwise import SmladDepthwise, SmladDepthwise3x3
from .smlad import SmladConv2d, SmladDense

#: For cores with the DSP extension.
DSP: tuple[Kernel, ...] = (SmladConv2d(), SmladDepthwise3x3(), SmladDepthwise(), SmladDense(), *PORTABLE)

KERNELS: Mapping[str, tuple[Kernel, ...]] = {
    "cortex-m0": PORTABLE,
    "cortex-m3": PORTABLE,
    "cortex-m4": DSP,
    "cortex-m7": DSP,
    "cortex-m33": DSP,
    "cortex-m55": DSP,
}
