"""The kernels of the loop language, in order: the first that accepts a group is taken."""

from __future__ import annotations

from ...kernel import Kernel
from .elementwise import Elementwise
from .linear import Conv2dKernel, DenseKernel, MatmulKernel
from .move import ConcatKernel, DepthToSpaceKernel, GatherKernel, Move, PadKernel
from .norm import BatchNormKernel, IntegerSoftmaxKernel, LayerNormKernel, SoftmaxKernel
from .pool import Pool2d
from .reduce import Reduce
from .resize import ResizeLinearKernel, ResizeNearestKernel

#: Of every target that renders the language.
SHARED: tuple[Kernel, ...] = (
    Pool2d(), Reduce(), SoftmaxKernel(), IntegerSoftmaxKernel(), BatchNormKernel(),
    Move(), DepthToSpaceKernel(), PadKernel(), GatherKernel(), ConcatKernel(),
    ResizeNearestKernel(), ResizeLinearKernel(),
    Elementwise(),
)  # fmt: skip

#: Of targets that have nothing faster: on mobile processors, tiles, and what a layer normalization is made of, are.
PLAIN: tuple[Kernel, ...] = (Conv2dKernel(), DenseKernel(), MatmulKernel(), LayerNormKernel())
