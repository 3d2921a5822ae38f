"""What other people's resizing does."""

import numpy as np

from planish.ir.types import Layout


def is_fractional(op, x):
    """Whether the result's size is not just scale times size: onnx's reference takes the product for it, unrounded."""
    spatial = x.shape[1:3] if op.layout is Layout.NHWC else x.shape[2:]
    return tuple(np.array(op.scales) * spatial) != op.size
