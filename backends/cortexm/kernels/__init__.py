"""The C kernels, and which of them each target asks, in order: the first that accepts a group is taken."""

from __future__ import annotations

from collections.abc import Mapping

from ...kernel import Kernel
from ...loops.kernels import PLAIN, SHARED
from .depthwise import SmladDepthwise, SmladDepthwise3x3
from .smlad import SmladConv2d, SmladDense

PORTABLE: tuple[Kernel, ...] = (*PLAIN, *SHARED)

#: For cores with the DSP extension.
DSP: tuple[Kernel, ...] = (SmladConv2d(), SmladDepthwise3x3(), SmladDepthwise(), SmladDense(), *PORTABLE)

KERNELS: Mapping[str, tuple[Kernel, ...]] = {
    "c": PORTABLE,
    "cortex-m0": PORTABLE,
    "cortex-m3": PORTABLE,
    "cortex-m4": DSP,
    "cortex-m7": DSP,
    "cortex-m33": DSP,
    "cortex-m55": DSP,
}
