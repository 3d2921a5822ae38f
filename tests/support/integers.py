"""Quantized layers over the integers: what QLinearConv, QLinearMatMul and QGemm are, and when a peer is right.

A processor with AVX2 and without VNNI adds two products of bytes in 16 bits, which saturate: ONNX Runtime's answer
depends on the processor. So the integers decide, and a peer is asked only where it was seen to be exact here.
"""

import functools
from itertools import product

import numpy as np

from tests.support.operators import check, one_node, runtime

LO16, HI16 = -(2**15), 2**15 - 1
BYTES = (np.uint8, np.int8)


def exact_sums(a, w):
    """a [..., K] times w [K, N], in 64 bits."""
    return a.astype(np.int64) @ w.astype(np.int64)


def saturated_sums(a, w):
    """a [..., K] times w [K, N] as VPMADDUBSW adds them up: neighbours along K in 16 bits, saturating."""
    odd = a.shape[-1] % 2
    a = np.pad(a.astype(np.int64), [(0, 0)] * (a.ndim - 1) + [(0, odd)])
    w = np.pad(w.astype(np.int64), [(0, odd), (0, 0)])
    products = a[..., :, None] * w
    pairs = products.reshape(*a.shape[:-1], -1, 2, w.shape[1]).sum(-2)
    return np.clip(pairs, LO16, HI16).sum(-2)


def shifted_sums(a, w, zero, sums):
    """Sums of (a - zero) * w, with the zero point taken out of the sums of the raw bytes, as libraries do."""
    return sums(a, w) - int(zero) * w.astype(np.int64).sum(0)


def requantized(sums, scale, zero):
    """round_half_even(sums * scale) + zero, saturated to the dtype of zero: QuantizeLinear."""
    limits = np.iinfo(zero.dtype)
    return np.clip(np.rint(sums * scale) + int(zero), limits.min, limits.max).astype(zero.dtype)


def patches(x, window, pads, fill):
    """What each output pixel of a convolution sees: x [N,C,H,W] -> [N, H', W', C * kh * kw]."""
    top, left, bottom, right = pads
    padded = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(2, 3))
    seen = seen.transpose(0, 2, 3, 1, 4, 5)
    return seen.reshape(*seen.shape[:3], -1)


def conv(x, c, pads, sums=exact_sums):
    """QLinearConv-10 of one group: x [N,C,H,W], constants c by name -> [N,O,H',W']."""
    seen = patches(x, c["w"].shape[2:], pads or [0] * 4, c["xz"])
    total = shifted_sums(seen, c["w"].reshape(len(c["w"]), -1).T, c["xz"], sums) + c["b"]
    return requantized(total, scale_of(c, "xs", "ws", "ys"), c["yz"]).transpose(0, 3, 1, 2)


def dense(x, c, sums=exact_sums):
    """QLinearMatMul-10 and QGemm: x [M,K], constants c by name, b [N] if there is one -> [M,N]."""
    total = shifted_sums(x, c["w"], c["az"], sums) + c.get("b", 0)
    return requantized(total, scale_of(c, "as", "ws", "ys"), c["yz"])


def scale_of(c, x, w, y):
    return c[x].astype(np.float64) * c[w].astype(np.float64) / c[y].astype(np.float64)


def byte_product(x, w):
    """A QLinearMatMul of x [M,K] and w [K,N] without zero points, scaled so as not to saturate; its constants."""
    scales = {"as": np.float32(1), "ws": np.float32(1), "ys": np.float32(255 * len(w))}
    zeros = {"az": x.dtype.type(0), "wz": w.dtype.type(0), "yz": x.dtype.type(0)}
    order = ("as", "az", "w", "ws", "wz", "ys", "yz")
    constants = {k: np.asarray({**scales, **zeros, "w": w}[k]) for k in order}
    return one_node("QLinearMatMul", {"x": x}, constants), constants


def is_exact(x_dtype, w_dtype, executor=runtime):
    """Whether the executor's products of these bytes are exact on this processor: asked with extremes."""
    for (rows, depth, columns), low in product([(1, 2, 1), (1, 4, 17), (3, 4, 5), (8, 4, 32)], [False, True]):
        x = np.full((rows, depth), np.iinfo(x_dtype).max, x_dtype)
        w = np.full((depth, columns), np.iinfo(w_dtype).min if low else np.iinfo(w_dtype).max, w_dtype)
        model, constants = byte_product(x, w)
        theirs = executor(model, {"x": x})
        if theirs is None or not np.array_equal(theirs[0], dense(x, constants)):
            return False
    return True


is_exact_here = functools.cache(is_exact)


def check_integers(path, model, inputs, exact, weights):
    """Our output within a step of the exact one; and of the peer's, where its products of such bytes are exact here.

    The step: QLinear layers enter as floats between quantize and dequantize, which round before the exact tie does.
    Returns False where ONNX Runtime, which knows what is valid, refuses the model.
    """
    (x,) = inputs.values()
    peer = runtime(model, inputs)
    if peer is None:
        return False
    ask = is_exact_here(x.dtype.type, weights.dtype.type)
    return check(path, model, inputs, steps=1, theirs=[exact]) and (
        not ask or check(path, model, inputs, steps=1, theirs=peer)
    )
