"""Convolutions, matrix products, batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ir.builder import const_value
from ....ir.graph import Value
from ....ir.ops.conv import conv2d
from ....ir.ops.conv_transpose import conv_transpose2d
from ....ir.ops.dense import dense, matmul
from ....ir.ops.elementwise import add, mul
from ....ir.ops.norm import batch_norm
from ....ir.ops.quant import Dequantize, dequantize
from ....ir.ops.shape import reshape, transpose
from ....ir.types import Array
from ..source import Adapter, SourceNode
from .arithmetic import number


def stored(value: Value) -> bool:
    """Whether a value lies in the model: a constant, or a dequantized one."""
    node = value.producer
    if node is None or not isinstance(node.op, Dequantize):
        return value.const is not None
    return all(v.const is not None for v in node.operands)


def moved(value: Value, move: Callable[[Array], Array], build: Callable[[Value], Value]) -> Value:
    """A data movement of weights: done now to a stored value, and inside its dequantize; else built as a node."""
    if value.const is not None:
        return const_value(np.array(move(value.const), order="C"), value.name)
    if not stored(value) or value.producer is None:
        return build(value)
    x, scale, zero = (
        v if v.type.rank not in (value.type.rank,) or v.type.rank == 0 else moved(v, move, build)
        for v in value.producer.operands
    )
    return dequantize(x, scale, zero)


def transposed(value: Value, perm: Sequence[int]) -> Value:
    return moved(value, lambda a: a.transpose(perm), lambda v: transpose(v, perm=tuple(perm)))


def zeros(node: SourceNode, size: int, like: Value) -> Value:
    """A vector, for instance of a bias that is not given."""
    return node.made((size,), like.type.dtype, lambda: np.zeros(size, like.type.dtype.numpy))


def as_image(x: Value) -> Value:
    """A signal [N,C,W] as an image [N,C,1,W]."""
    n, c, w = x.type.shape
    return moved(x, lambda a: a[:, :, None, :], lambda v: reshape(v, shape=(n, c, 1, w)))


def as_signal(x: Value) -> Value:
    """An image [N,C,1,W] as a signal."""
    n, c, _, w = x.type.shape
    return reshape(x, shape=(n, c, w))


def pads_of(node: SourceNode, spatial: Sequence[int], extents: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Pads, begins before ends, from `pads` or `auto_pad`. extents: the window's, dilated."""
    mode, pads = node.text("auto_pad", "NOTSET"), node.integers("pads")
    rank = len(spatial)
    if mode == "NOTSET":
        result = list(pads or (0,) * 2 * rank)
        if len(result) != 2 * rank:
            raise node.broken(f"{len(result)} pads for {rank} axes")
        if min(result) < 0:
            raise node.unsupported("negative pads are not supported", fix="slice before")
        return result
    if mode == "VALID":
        return [0] * 2 * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.broken(f"auto_pad is {mode!r}")
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(spatial, extents, strides, strict=True)]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return less + more if mode == "SAME_UPPER" else more + less


def sizes_of(node: SourceNode, name: str, rank: int) -> list[int]:
    """An attribute with one positive size per spatial axis, default 1."""
    sizes = list(node.integers(name) or (1,) * rank)
    if len(sizes) != rank or min(sizes) < 1:
        raise node.broken(f"{name} is {sizes}; it needs {rank} sizes of at least 1")
    return sizes


def spatial_rank(node: SourceNode, x: Value) -> int:
    """1 or 2; an image [N,C,H,W] has 2."""
    if x.type.rank not in (3, 4):
        raise node.unsupported(f"only [N,C,W] and [N,C,H,W] are supported, not rank {x.type.rank}")
    return x.type.rank - 2


def convolve(node: SourceNode, x: Value, w: Value, b: Value | None) -> Value:
    """The convolution that the attributes of Conv describe."""
    rank = spatial_rank(node, x)
    if w.type.rank != x.type.rank:
        raise node.broken(f"weights {w.type} do not fit {x.type}")
    window = node.static(w.type.shape[2:])
    if (kernel := node.integers("kernel_shape")) is not None and kernel != window:
        raise node.broken(f"kernel_shape is {list(kernel)}, the weights have {list(window)}")
    strides, dilations = sizes_of(node, "strides", rank), sizes_of(node, "dilations", rank)
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    automatic = node.text("auto_pad", "NOTSET").startswith("SAME")
    pads = pads_of(node, node.static(x.type.shape[2:]) if automatic else (1,) * rank, extents, strides)
    b = zeros(node, node.known(w.type.shape[0]), w) if b is None else b
    if rank == 1:
        x, w = as_image(x), as_image(w)
        strides, dilations, pads = [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    y = conv2d(
        x, w, b, strides=tuple(strides), pads=tuple(pads), dilations=tuple(dilations), groups=node.integer("group", 1)
    )
    return as_signal(y) if rank == 1 else y


def conv(node: SourceNode) -> Value:
    return convolve(node, node.value(0), node.value(1), node.optional(2))


def conv_transpose(node: SourceNode) -> Value:
    x, w, b = node.value(0), node.value(1), node.optional(2)
    rank, groups = spatial_rank(node, x), node.integer("group", 1)
    if groups < 1:
        raise node.broken(f"group is {groups}")
    if w.type.rank != x.type.rank:
        raise node.broken(f"weights {w.type} do not fit {x.type}")
    window, image = node.static(w.type.shape[2:]), node.static(x.type.shape[2:])
    if (kernel := node.integers("kernel_shape")) is not None and kernel != window:
        raise node.broken(f"kernel_shape is {list(kernel)}, the weights have {list(window)}")
    strides, dilations = sizes_of(node, "strides", rank), sizes_of(node, "dilations", rank)
    more = list(node.integers("output_padding") or (0,) * rank)
    reach = [s * (n - 1) + d * (k - 1) + 1 for s, n, d, k in zip(strides, image, dilations, window, strict=True)]
    pads = _transposed_pads(node, image, strides, [a + b for a, b in zip(reach, more, strict=True)])
    b = zeros(node, groups * node.known(w.type.shape[1]), w) if b is None else b
    if rank == 1:
        x, w, strides, dilations, more = as_image(x), as_image(w), [1, *strides], [1, *dilations], [0, *more]
        pads = [0, pads[0], 0, pads[1]]
    y = conv_transpose2d(
        x, w, b, strides=tuple(strides), pads=tuple(pads), output_pads=tuple(more), dilations=tuple(dilations),
        groups=groups,
    )  # fmt: skip
    return as_signal(y) if rank == 1 else y


def _transposed_pads(node: SourceNode, image: Sequence[int], strides: Sequence[int], reach: Sequence[int]) -> list[int]:
    """Pads, begins before ends, from `pads`, or such that the result has `output_shape` or the stride's multiple."""
    mode, wanted = node.text("auto_pad", "NOTSET"), node.integers("output_shape")
    if wanted is None and not mode.startswith("SAME"):
        return pads_of(node, image, (1,) * len(image), strides)
    node.ignore("pads")
    sizes = [n * s for n, s in zip(image, strides, strict=True)] if wanted is None else wanted[-len(image) :]
    totals = [r - size for r, size in zip(reach, sizes, strict=True)]
    if min(totals) < 0:
        raise node.unsupported(f"a result of {list(sizes)} is larger than the transposed window reaches")
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return less + more if mode == "SAME_UPPER" else more + less


def multiply(node: SourceNode, a: Value, b: Value) -> Value:
    """numpy.matmul; stored weights make it a dense layer."""
    if not a.type.rank or not b.type.rank:
        raise node.broken("scalars have no matrix product")
    if b.type.rank == 2 and stored(b):
        return dense(a, transposed(b, (1, 0)), zeros(node, node.known(b.type.shape[1]), b))
    left = a if a.type.rank > 1 else reshape(a, shape=(1, *a.type.shape))
    right = b if b.type.rank > 1 else reshape(b, shape=(*b.type.shape, 1))
    y = matmul(left, right)
    shape = y.type.shape
    if b.type.rank == 1:
        shape = shape[:-1]
    if a.type.rank == 1:
        shape = (*shape[:-2], *shape[-1:]) if b.type.rank > 1 else shape[:-1]
    return y if shape == y.type.shape else reshape(y, shape=shape)


def general_product(node: SourceNode, a: Value, b: Value, c: Value | None) -> Value:
    """Alpha * a * b + beta * c, a and b transposed as the attributes of Gemm say."""
    if a.type.rank != 2 or b.type.rank != 2:
        raise node.broken(f"matrices have rank 2, not {a.type} and {b.type}")
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if node.integer("transA", 0):
        a = transposed(a, (1, 0))
    flip = bool(node.integer("transB", 0))
    outputs = b.type.shape[0 if flip else 1]
    if alpha != 1:
        b, a = (mul_const(b, alpha), a) if b.const is not None else (b, mul(a, number(a, alpha)))
    if beta != 1 and c is not None:
        c = mul_const(c, beta) if c.const is not None else mul(c, number(c, beta))
    if not stored(b):
        y = matmul(a, transposed(b, (1, 0)) if flip else b)
        return y if c is None else add(y, c)
    bias = zeros(node, int(outputs), b) if c is None else bias_vector(node, c, int(outputs))  # type: ignore[arg-type]
    weights = b if flip else transposed(b, (1, 0))
    if bias is not None:
        return dense(a, weights, bias)
    return add(dense(a, weights, zeros(node, int(outputs), b)), c)  # type: ignore[arg-type]


def mul_const(value: Value, factor: float) -> Value:
    assert value.const is not None
    return const_value(value.const * value.type.dtype.numpy.type(factor), value.name)


def bias_vector(node: SourceNode, c: Value, outputs: int) -> Value | None:
    """A stored bias that is the same for every row, as [outputs]; else None."""
    if c.type.shape == (outputs,) and stored(c):
        return c
    if c.const is None or c.type.rank > 2 or (c.type.rank == 2 and c.type.shape[0] != 1):
        return None
    if c.const.size not in (1, outputs):
        return None
    vector = c.const.reshape(-1)
    return node.made((outputs,), c.type.dtype, lambda: np.broadcast_to(vector, (outputs,)).copy())


def gemm(node: SourceNode) -> Value:
    return general_product(node, node.value(0), node.value(1), node.optional(2))


def batch_normalization(node: SourceNode) -> Value:
    if node.integer("training_mode", 0):
        raise node.unsupported("training mode is not supported", fix="export the model for inference")
    if not node.integer("spatial", 1):
        raise node.unsupported("statistics per element (spatial=0) are not supported")
    node.ignore("momentum")
    return batch_norm(*(node.value(i) for i in range(5)), epsilon=node.real("epsilon", 1e-5))


TABLE: dict[str, Adapter] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": lambda node: multiply(node, node.value(0), node.value(1)),
    "BatchNormalization": batch_normalization,
}
