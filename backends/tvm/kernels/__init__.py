"""The kernels of mobile code, in order: the first that accepts a group is taken."""

from __future__ import annotations

from ...kernel import Kernel
from ...loops.kernels import SHARED
from .depthwise import TirDepthwise
from .linear import TirConv2d, TirDense, TirMatmul

KERNELS: tuple[Kernel, ...] = (TirDepthwise(), TirConv2d(), TirDense(), TirMatmul(), *SHARED)
