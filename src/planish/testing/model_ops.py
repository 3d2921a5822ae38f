"""One recipe per kind of ONNX operator: it picks operands that fit, and adds a node; or does nothing where none fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .models import Drawing, Tensor

Recipe = Callable[["Drawing"], object]
F32, F64, BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
I32, I64 = np.dtype(np.int32), np.dtype(np.int64)
SIGNED = tuple(np.dtype(t) for t in ("i1", "i2", "i4", "i8"))
UNSIGNED = tuple(np.dtype(t) for t in ("u1", "u2", "u4", "u8"))
NUMBERS = (F32, *SIGNED, *UNSIGNED)


def floats(t: Tensor) -> bool:
    """What float arithmetic takes."""
    return t.dtype == F32 and t.tame


# ---- elementwise

#: Operators of one float, from which operator set on, and their attributes.
SMOOTH: Sequence[tuple[str, int, dict[str, Any]]] = (
    ("Sigmoid", 13, {}), ("Tanh", 13, {}), ("Erf", 13, {}), ("Softplus", 1, {}), ("Softsign", 1, {}), ("Elu", 6, {}),
    ("Elu", 6, {"alpha": 0.5}), ("Selu", 6, {}), ("Celu", 12, {"alpha": 2.0}), ("LeakyRelu", 6, {"alpha": 0.1}),
    ("HardSigmoid", 6, {}), ("HardSwish", 14, {}), ("Mish", 18, {}), ("Gelu", 20, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
)  # fmt: skip
#: The same whose results may be large or no number.
WILD = ("Exp", "Log", "Sqrt", "Reciprocal")


def smooth(d: Drawing) -> None:
    """A function of floats that are neither large nor no number."""
    name, since, attributes = d.choice(SMOOTH)
    if d.opset >= since and (x := d.pick(floats)):
        d.emit(name, [x], replace(x, exact=False), **attributes)


def wild(d: Drawing) -> None:
    """A function whose results may be large, or no number."""
    if x := d.pick(floats):
        d.emit(d.choice(WILD), [x], replace(x, exact=False, tame=False))


def sign(d: Drawing) -> None:
    """What is exact on any number."""
    name = d.choice(["Neg", "Abs", "Relu", "Identity", "Abs"])
    types = (F32, *SIGNED) if name == "Neg" or (name == "Relu" and d.opset >= 14) else NUMBERS
    if x := d.pick(lambda t: t.dtype in ((F32,) if name == "Relu" and d.opset < 14 else types)):
        d.emit(name, [x], x)


def clip(d: Drawing) -> None:
    """Both ends for what may be infinite: a missing one is the largest float, which planish takes for no end at all."""
    if x := d.pick(lambda t: t.dtype in NUMBERS and (t.tame or t.dtype != F32)):
        ends: list[Tensor | None] = []
        for _ in range(2):
            tame = d.chance(2)
            ends.append(d.constant(d.values(x.dtype, (), tame), tame) if d.chance(2) else None)
        d.emit("Clip", [x, *ends], replace(x, tame=x.tame and all(end is None or end.tame for end in ends)))


def arithmetic(d: Drawing) -> None:
    """Integers of any size wrap."""
    name = d.choice(["Add", "Sub", "Mul"])
    types = (F32, I32, I64, np.dtype(np.uint32), np.dtype(np.uint64)) if d.opset < 14 else NUMBERS
    if x := d.pick(lambda t: t.dtype in types and (t.tame or t.dtype != F32)):
        y = d.partner(x, any_value=x.dtype != F32)
        _binary(d, name, x, y, exact=x.dtype != F32 and x.exact and y.exact, tame=False if x.dtype != F32 else None)


def divide(d: Drawing) -> None:
    """By constants, where integers are divided: by zero and by -1 ONNX says nothing."""
    if x := d.pick(lambda t: t.dtype in (F32, I32, I64) and t.tame):
        if x.dtype == F32:
            _binary(d, d.choice(["Div", "Div", "Pow"]), x, d.partner(x, any_value=False), exact=False, tame=False)
        else:
            divisor = d.constant(np.full((), d.choice([2, 3, 7, -2]), x.dtype))
            _binary(d, "Div", x, divisor, exact=x.exact)


def extremum(d: Drawing) -> None:
    """The smaller or larger of any two numbers."""
    if x := d.pick(lambda t: t.dtype in NUMBERS):
        _binary(d, d.choice(["Min", "Max"]), x, d.partner(x))


def several(d: Drawing) -> None:
    """Three operands."""
    if x := d.pick(floats):
        operands = [x, *(d.partner(x, any_value=False) for _ in range(2))]
        shape = _shape(*operands)
        if shape is not None:
            name = d.choice(["Sum", "Mean", "Max", "Min"])
            exact = name in ("Max", "Min") and all(t.exact for t in operands)
            d.emit(name, operands, replace(x, shape=shape, exact=exact))


def prelu(d: Drawing) -> None:
    """Slopes by channel."""
    if x := d.pick(lambda t: floats(t) and t.rank > 1):
        d.emit("PRelu", [x, d.weights(*(x.shape[1:2] + (1,) * (x.rank - 2)))], replace(x, exact=False))


def comparison(d: Drawing) -> None:
    """Of exact tensors: a rounding would decide."""
    name = d.choice(["Equal", "Less", "Greater", *(["LessOrEqual", "GreaterOrEqual"] if d.opset >= 16 else [])])
    types = (*NUMBERS, BOOL) if name == "Equal" else NUMBERS
    if x := d.pick(lambda t: t.dtype in types and t.exact):
        _binary(d, name, x, d.partner(x, exact=True), dtype=BOOL, tame=True)


def logic(d: Drawing) -> None:
    """Of truth values."""
    if x := d.pick(lambda t: t.dtype == BOOL):
        if d.chance(4):
            d.emit("Not", [x], x)
        else:
            _binary(d, d.choice(["And", "Or", "Xor"]), x, d.partner(x))


def where(d: Drawing) -> None:
    """A choice between tensors of any dtype."""
    condition = d.pick(lambda t: t.dtype == BOOL)
    x = d.pick(lambda t: condition is not None and _shape(t, condition) is not None)
    if condition and x:
        y = d.partner(x)
        shape = _shape(condition, x, y)
        if shape is not None:
            order = [x, y] if d.chance(2) else [y, x]
            like = replace(x, shape=shape, exact=x.exact and y.exact, tame=x.tame and y.tame)
            d.emit("Where", [condition, *order], like)


def cast(d: Drawing) -> None:
    """Floats become integers only where they are small, and signed; integers wrap."""
    from onnx import helper

    if x := d.pick(lambda t: t.exact or t.dtype == F32):
        to = d.choice([F32, F32, F64, *SIGNED, *UNSIGNED, BOOL, BOOL])
        if x.dtype.kind == "f" and to.kind in "iub" and not x.exact:
            return
        if x.dtype.kind == "f" and to.kind in "iu" and not (x.tame and to.kind == "i"):
            return
        tame = (x.tame and x.dtype != F64) or to == BOOL
        d.emit("Cast", [x], replace(x, dtype=to, tame=tame), to=helper.np_dtype_to_tensor_dtype(to))


def _shape(*tensors: Tensor) -> tuple[int, ...] | None:
    try:
        shape = np.broadcast_shapes(*(t.shape for t in tensors))
    except ValueError:
        return None
    return shape if math.prod(shape) <= 3000 else None


def _binary(
    d: Drawing, name: str, x: Tensor, y: Tensor, exact: bool | None = None, tame: bool | None = None, dtype: Any = None
) -> None:
    shape = _shape(x, y)
    if shape is None:
        return
    exact = (x.exact and y.exact) if exact is None else exact
    tame = (x.tame and y.tame) if tame is None else tame
    order = [x, y] if d.chance(2) or name in ("Div", "Pow") else [y, x]
    d.emit(name, order, replace(x, shape=shape, exact=exact, tame=tame, dtype=dtype or x.dtype))


# ---- reductions

REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
              "ReduceLogSumExp", "ReduceMin", "ReduceMax", "ReduceProd")  # fmt: skip


def reduction(d: Drawing) -> None:
    """Over some axes or all; extrema of any numbers, sums of small ones: large sums wrap here, not in every peer."""
    name = d.choice(REDUCTIONS)
    chosen = name in ("ReduceMax", "ReduceMin")
    integers = (I32, I64, np.dtype(np.uint32), np.dtype(np.uint64))
    narrow = (np.dtype(np.int8), np.dtype(np.uint8))
    types = (F32, *integers, *narrow) if chosen else (F32, *(integers if name in ("ReduceSum", "ReduceL1") else ()))
    x = d.pick(lambda t: t.dtype in types and t.size > 0 and ((chosen and t.dtype != F32) or t.tame))
    if x is None:
        return
    axes = sorted({d.integer(0, x.rank - 1) for _ in range(d.integer(1, 3))}) if x.rank else []
    given = [a - x.rank if d.chance(3) else a for a in axes] if not d.chance(5) else []
    axes = axes if given else list(range(x.rank))
    keep = d.integer(0, 1)
    shape = tuple(1 if i in axes else s for i, s in enumerate(x.shape) if keep or i not in axes)
    like = replace(x, shape=shape, exact=x.exact and (chosen or x.dtype != F32), tame=x.tame and x.dtype == F32)
    if d.opset >= (13 if name == "ReduceSum" else 18):
        d.emit(name, [x, *([d.constant(np.array(given, np.int64))] if given else [])], like, keepdims=keep)
    else:
        d.emit(name, [x], like, axes=given or None, keepdims=keep)


def softmax(d: Drawing) -> None:
    """Along any axis."""
    if x := d.pick(lambda t: floats(t) and t.rank > 0 and t.size > 0):
        axis = d.integer(-x.rank, x.rank - 1)
        d.emit(d.choice(["Softmax", "Softmax", "LogSoftmax"]), [x], replace(x, exact=False), axis=axis)


# ---- movement


def transpose(d: Drawing) -> None:
    """Any order of the axes."""
    if x := d.pick(lambda t: t.rank > 1):
        perm = [int(i) for i in d.random.permutation(x.rank)]
        d.emit("Transpose", [x], replace(x, shape=tuple(x.shape[i] for i in perm)), perm=perm)


def reshape(d: Drawing) -> None:
    """Any operator that leaves the order of the elements."""
    x = d.pick(lambda t: t.size > 0)
    if x is None:
        return
    kind = d.choice(["Reshape", "Flatten", "Squeeze", "Unsqueeze"])
    if kind == "Flatten":
        axis = d.integer(0, x.rank)
        like = replace(x, shape=(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        d.emit("Flatten", [x], like, axis=axis)
    elif kind == "Squeeze" and (ones := [i for i, s in enumerate(x.shape) if s == 1]):
        axes = d.constant(np.array(ones, np.int64))
        d.emit("Squeeze", [x, axes], replace(x, shape=tuple(s for s in x.shape if s != 1)))
    elif kind == "Unsqueeze" and x.rank < 5:
        axis = d.integer(0, x.rank)
        d.emit("Unsqueeze", [x, d.constant(np.array([axis]))], replace(x, shape=(*x.shape[:axis], 1, *x.shape[axis:])))
    else:
        sizes = [int(s) for s in d.random.permutation(x.shape)] if x.rank else [1]
        asked = [-1, *sizes[1:]] if d.chance(2) else sizes
        d.emit("Reshape", [x, d.constant(np.array(asked, np.int64))], replace(x, shape=tuple(sizes)))


def concat(d: Drawing) -> None:
    """Tensors, and perhaps a constant."""
    x = d.pick(lambda t: t.rank > 0)
    if x is None:
        return
    axis = d.integer(0, x.rank - 1)

    def fits(t: Tensor) -> bool:
        alike = t.rank == x.rank and t.dtype == x.dtype
        return alike and all(a == b or i == axis for i, (a, b) in enumerate(zip(t.shape, x.shape, strict=True)))

    parts = [x, *(p for p in (d.pick(fits), d.pick(fits)) if p is not None)]
    if d.chance(2):
        parts.append(d.constant(d.values(x.dtype, x.shape)))
    shape = (*x.shape[:axis], sum(t.shape[axis] for t in parts), *x.shape[axis + 1 :])
    if math.prod(shape) <= 3000:
        like = replace(x, shape=shape, exact=all(t.exact for t in parts), tame=all(t.tame for t in parts))
        d.emit("Concat", parts, like, axis=axis)


def slice_(d: Drawing) -> None:
    """One axis, forwards or backwards."""
    x = d.pick(lambda t: t.rank > 0 and t.size > 0)
    if x is None:
        return
    axis = d.integer(0, x.rank - 1)
    start, stop, step = d.integer(0, x.shape[axis] - 1), d.choice([x.shape[axis], 2**31]), d.choice([1, 1, 2, 3])
    if d.chance(4):
        start, stop, step = -1, -(2**31), -d.integer(1, 2)
    size = len(range(*slice(start, stop, step).indices(x.shape[axis])))
    ends = [d.constant(np.array([v], np.int64)) for v in (start, stop, axis, step)]
    d.emit("Slice", [x, *ends], replace(x, shape=(*x.shape[:axis], size, *x.shape[axis + 1 :])))


def split(d: Drawing) -> None:
    """Two parts."""
    x = d.pick(lambda t: any(s > 1 for s in t.shape))
    if x is None:
        return
    axis = d.choice([i for i, s in enumerate(x.shape) if s > 1])
    first = d.integer(1, x.shape[axis] - 1)
    sizes = [first, x.shape[axis] - first]
    like = [replace(x, shape=(*x.shape[:axis], s, *x.shape[axis + 1 :])) for s in sizes]
    d.emit_several("Split", [x, d.constant(np.array(sizes, np.int64))], like, axis=axis)


def pad(d: Drawing) -> None:
    """All modes."""
    x = d.pick(lambda t: t.rank > 0 and t.size > 0)
    if x is None:
        return
    mode = d.choice(["constant", "constant", "reflect", "edge"])
    most = [2 if mode == "constant" else min(2, s - 1) for s in x.shape]
    before, after = ([d.integer(0, m) if d.chance(2) else 0 for m in most] for _ in range(2))
    shape = tuple(s + a + b for s, a, b in zip(x.shape, before, after, strict=True))
    if math.prod(shape) > 3000:
        return
    operands = [x, d.constant(np.array([*before, *after], np.int64))]
    if mode == "constant" and d.chance(2):
        operands.append(d.constant(d.values(x.dtype, (), tame=d.chance(2))))
    d.emit("Pad", operands, replace(x, shape=shape, tame=x.tame and mode != "constant"), mode=mode)


def expand(d: Drawing) -> None:
    """Tile or Expand."""
    x = d.pick(lambda t: t.rank < 5)
    if x is None:
        return
    if x.rank and d.chance(2):
        repeats = [d.integer(1, 2) for _ in x.shape]
        shape, name, operand = tuple(s * r for s, r in zip(x.shape, repeats, strict=True)), "Tile", repeats
    else:
        wider = tuple(d.choice([1, 2, 3]) if s == 1 else s for s in x.shape)
        shape, name = (*((2,) if d.chance(2) else ()), *wider), "Expand"
        operand = list(shape)
    if math.prod(shape) <= 3000:
        d.emit(name, [x, d.constant(np.array(operand, np.int64))], replace(x, shape=shape))


def gather(d: Drawing) -> None:
    """Constant indices of any rank, from either end."""
    if x := d.pick(lambda t: t.rank > 0 and t.size > 0):
        axis = d.integer(0, x.rank - 1)
        indices = d.random.integers(-x.shape[axis], x.shape[axis], d.choice([(), (1,), (3,), (2, 2)]))
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        if math.prod(shape) <= 3000 and len(shape) < 6:
            d.emit("Gather", [x, d.constant(np.asarray(indices, np.int64))], replace(x, shape=shape), axis=axis)


def depth_to_space(d: Drawing) -> None:
    """Blocks of 2 x 2."""
    if x := d.pick(lambda t: t.dtype == F32 and t.rank == 4 and t.size > 0 and t.shape[1] % 4 == 0):
        n, c, h, w = x.shape
        mode = d.choice(["DCR", "CRD"])
        d.emit("DepthToSpace", [x], replace(x, shape=(n, c // 4, 2 * h, 2 * w)), blocksize=2, mode=mode)


# ---- layers


def image(t: Tensor) -> bool:
    """What convolutions and pooling take: one or two axes of pixels."""
    return floats(t) and t.rank in (3, 4) and t.size > 0


def windows(d: Drawing, x: Tensor, dilate: bool = True) -> tuple[dict[str, list[int]], tuple[int, ...]]:
    """Attributes of a window that slides over the pixels, and how many places it has."""
    pixels = x.shape[2:]
    kernel = [d.integer(1, min(3, s)) for s in pixels]
    strides = [d.integer(1, 2) for _ in pixels]
    pads = [d.integer(0, k - 1) for k in [*kernel, *kernel]]
    dilations = [d.integer(1, 2) if dilate and 2 * (k - 1) < s else 1 for k, s in zip(kernel, pixels, strict=True)]
    places = tuple(
        (s + pads[i] + pads[i + len(pixels)] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i, s in enumerate(pixels)
    )
    found = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    return found | ({"dilations": dilations} if dilate else {}), places


def conv(d: Drawing) -> None:
    """Grouped, dilated, padded, of one or two axes of pixels."""
    if x := d.pick(image):
        attributes, places = windows(d, x)
        group = d.choice([1, 1, x.shape[1]])
        channels = group * d.integer(1, 3)
        w = d.weights(channels, x.shape[1] // group, *attributes["kernel_shape"])
        b = [d.weights(channels)] if d.chance(2) else []
        like = replace(x, shape=(x.shape[0], channels, *places), exact=False)
        d.emit("Conv", [x, w, *b], like, group=group, **attributes)


def pool(d: Drawing) -> None:
    """Windows, or all pixels."""
    if x := d.pick(image):
        name = d.choice(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
        if name.startswith("Global"):
            like = replace(x, shape=(*x.shape[:2], *(1,) * (x.rank - 2)), exact=x.exact and name == "GlobalMaxPool")
            d.emit(name, [x], like)
            return
        attributes, places = windows(d, x, dilate=name == "MaxPool")
        like = replace(x, shape=(*x.shape[:2], *places), exact=x.exact and name == "MaxPool")
        d.emit(name, [x], like, count_include_pad=d.integer(0, 1) if name == "AveragePool" else None, **attributes)


def normalization(d: Drawing) -> None:
    """Three kinds, with constant parameters."""
    if x := d.pick(lambda t: floats(t) and t.rank > 1 and t.size > 0):
        like = replace(x, exact=False)
        name = d.choice(["BatchNormalization", "LayerNormalization", "InstanceNormalization"])
        if name == "LayerNormalization":
            if d.opset >= 17 and x.shape[-1] > 2:
                d.emit(name, [x, d.weights(x.shape[-1]), d.weights(x.shape[-1])], like, axis=-1)
        elif name == "InstanceNormalization":
            if x.rank > 2 and math.prod(x.shape[2:]) > 2:
                d.emit(name, [x, d.weights(x.shape[1]), d.weights(x.shape[1])], like)
        else:
            variance = d.constant(d.random.uniform(0.5, 2, x.shape[1]).astype(np.float32))
            d.emit(name, [x, *(d.weights(x.shape[1]) for _ in range(3)), variance], like)


def matmul(d: Drawing) -> None:
    """By constant weights."""
    if x := d.pick(lambda t: floats(t) and t.rank > 0 and t.size > 0):
        columns = d.choice([1, 2, 5, 17])
        if x.rank == 2 and d.chance(2):
            bias = [d.weights(columns)] if d.chance(2) else []
            shape = (x.shape[0], columns)
            d.emit("Gemm", [x, d.weights(columns, x.shape[1]), *bias], replace(x, shape=shape, exact=False), transB=1)
        elif math.prod(x.shape[:-1]) * columns <= 3000:
            shape = (*x.shape[:-1], columns)
            d.emit("MatMul", [x, d.weights(x.shape[-1], columns)], replace(x, shape=shape, exact=False))


def resize(d: Drawing) -> None:
    """Twice as many pixels."""
    if x := d.pick(lambda t: floats(t) and t.rank == 4 and t.size > 0):
        shape = (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        if math.prod(shape) <= 3000:
            mode = d.choice(["nearest", "linear"])
            scales = d.constant(np.array([1, 1, 2, 2], np.float32))
            like = replace(x, shape=shape, exact=x.exact and mode == "nearest")
            where_ = "asymmetric" if mode == "nearest" else d.choice(["half_pixel", "asymmetric", "align_corners"])
            rounding = "floor" if mode == "nearest" else None
            d.emit(
                "Resize",
                [x, None, scales],
                like,
                mode=mode,
                coordinate_transformation_mode=where_,
                nearest_mode=rounding,
            )


#: What is met more often, or goes wrong more often, stands here several times.
RECIPES: tuple[Recipe, ...] = (
    smooth, smooth, wild, sign, sign, clip, clip, arithmetic, arithmetic, arithmetic, divide, extremum, extremum,
    several, prelu, comparison, comparison, comparison, logic, logic, logic, where, where, cast, cast, cast,
    reduction, reduction, reduction, softmax, transpose, transpose, reshape, reshape, concat, concat, slice_, split,
    pad, pad, expand, gather, depth_to_space, conv, conv, conv, pool, pool, pool, normalization, normalization, matmul,
    matmul, resize, resize,
)  # fmt: skip
