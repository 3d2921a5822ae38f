"""The laws of `Op.channels`: what is tied can be taken away, and is all that goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from ..ir.channels import Channels, Kept, Places
from ..ir.errors import InferenceError
from ..ir.graph import infer
from ..ir.op import Instance
from ..ir.types import Array, type_of


def check_channels(instance: Instance, results: Sequence[Array], slack: Sequence[Array], data: st.DataObject) -> None:
    """For one answer of the op and some of its channels: the op without them gives its results without their slices.

    Of a sum over channels: the sum over some and the sum over the others, without a second bias, add up to the whole.
    results: of the instance. slack: largest error of each element of them.
    """
    answers = instance.op.channels([type_of(x) for x in instance.operands])
    if not answers:
        return
    channels: Channels = data.draw(st.sampled_from(answers), label="channels")
    random = np.random.Generator(np.random.PCG64(data.draw(st.integers(0, 2**16), label="seed of what is kept")))
    keep = random.integers(0, 3, channels.count) > 0
    room = [2 * np.broadcast_to(error, result.shape) for error, result in zip(slack, results, strict=True)]
    if channels.is_sum:
        if keep.any() and not keep.all():
            parts = [_without(instance, channels.kept(k), results) for k in (keep, ~keep)]
            bias = 0 if channels.bias is None else instance.operands[channels.bias]
            total = parts[0][0].astype(np.float64) + parts[1][0] - _along_result(bias, channels, instance, results[0])
            _agree([total], results, room)
        return
    kept = channels.kept(keep)
    if all(indices.size for places in kept for indices in places.values()):
        expected, room = ([_part(x, kept.results, i) for i, x in enumerate(side)] for side in (results, room))
        _agree(_without(instance, kept, expected), expected, room)


def _part(array: Array, places: Places, index: int) -> Array:
    for (i, axis), indices in places.items():
        if i == index:
            array = array.take(indices, axis)
    return array


def _without(instance: Instance, kept: Kept, expected: Sequence[Array]) -> Sequence[Array]:
    """What the op gives for what is left of its operands; as expected where a movement has no attributes that fit."""
    operands = [_part(x, kept.operands, i) for i, x in enumerate(instance.operands)]
    types = [type_of(x) for x in operands]
    op = instance.op.resized(types, kept)
    try:
        shapes = [t.shape for t in infer(op, types)] if op is not None else None
    except InferenceError:
        shapes = None
    left = [x.shape for x in expected]
    if op is None or shapes != left:  # depth_to_space cannot leave out a row of its blocks
        assert instance.op.moves_data, f"{op} gives {shapes}, not {left}: it is resized to whatever channels are left"
        return expected
    with np.errstate(all="ignore"):
        out = op.ref(*operands)
    return [np.asarray(x) for x in (out if isinstance(out, tuple) else (out,))]


def _along_result(bias: Array | int, channels: Channels, instance: Instance, result: Array) -> Array:
    """The bias of a sum, where the result has its outputs: on the axis that another answer ties to it."""
    if isinstance(bias, int):
        return np.zeros(())
    answers = instance.op.channels([type_of(x) for x in instance.operands])
    (axis,) = {a for c in answers if (channels.bias, 0) in c.operands for _, a in c.results}
    return bias.reshape(-1, *(1,) * (result.ndim - axis - 1))


def _agree(actual: Sequence[Array], expected: Sequence[Array], room: Sequence[Array]) -> None:
    for a, b, slack in zip(actual, expected, room, strict=True):
        with np.errstate(all="ignore"):
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
        same = (gap <= slack) | (a == b)
        assert np.all(same), f"without some channels the op gives {a.tolist()}, not {b.tolist()}"
