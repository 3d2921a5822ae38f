"""The TIR kernels, in order: the first that accepts a group is taken."""

from __future__ import annotations

from ...kernel import Kernel
from ...loops.kernels.elementwise import Elementwise
from .depthwise import TirDepthwise
from .linear import TirConv2d, TirDense, TirMatmul
from .move import TirConcat, TirDepthToSpace, TirGather, TirMove, TirPad
from .norm import TirBatchNorm, TirIntegerSoftmax, TirSoftmax
from .pool import TirPool2d
from .reduce import TirReduce
from .resize import TirResizeLinear, TirResizeNearest

KERNELS: tuple[Kernel, ...] = (
    TirDepthwise(), TirConv2d(), TirDense(), TirMatmul(),
    TirPool2d(), TirReduce(), TirSoftmax(), TirIntegerSoftmax(),
    TirBatchNorm(), TirMove(), TirDepthToSpace(), TirPad(), TirGather(), TirConcat(),
    TirResizeNearest(), TirResizeLinear(),
    Elementwise(),
)  # fmt: skip
