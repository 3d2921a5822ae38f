"""The integer form of an op against the op itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import note
from hypothesis import strategies as st

from ..ir.arithmetic import quantize
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, graph_input
from ..ir.op import Instance, Op
from ..ir.ops.quantized import QuantizedOperand, QuantizedResult, Refusal, integer_form
from ..ir.precision import widened
from ..ir.scheme import Scheme
from ..ir.text import print_graph
from ..ir.types import F32, I8, I16, Array, DType, TensorType, dtype_of, type_of
from ..ir.verifier import verify
from .ops import errors, for_each_instance, reference


@dataclass(frozen=True)
class Calibrated:
    """A float array in 8 or 16 bits: real = scale * (q - zero)."""

    scale: Array
    zero: Array
    q: Array

    @property
    def real(self) -> Array:
        return ((self.q.astype(np.int64) - self.zero) * self.scale.astype(np.float64)).astype(np.float32)


def check_quantized(op: type[Op]) -> None:
    """Hold `op.quantized` to its promise: within one step of quantize(op(dequantize(...))), accumulators in bounds.

    A table holds what the op gives in float32: where that cancels, as gelu far below zero, its declared error is added.
    Operands of generated float instances are calibrated to their own range, in 8 or 16 bits; a refusal is an answer.
    """
    for_each_instance(op, _within_one_step)


def asymmetric(x: Array, dtype: DType = I8) -> Calibrated:
    """Calibrated as activations are: one scale, the range widened to contain 0."""
    low, high = min(float(x.min(initial=0)), 0.0), max(float(x.max(initial=0)), 0.0)
    scale = np.array((high - low) / (dtype.max - dtype.min) or 1, np.float32)
    zero = np.array(np.clip(np.rint(dtype.min - low / scale), dtype.min, dtype.max), np.int64)
    return Calibrated(scale, zero, quantize(x, scale, zero, dtype.min, dtype.max).astype(dtype.numpy))


def symmetric(x: Array, per_channel: bool, dtype: DType = I8) -> Calibrated:
    """Calibrated as weights are: zero point 0, one scale or one per index of axis 0."""
    axes = tuple(range(1, x.ndim)) if per_channel and x.ndim > 1 else None
    scale = (np.abs(x).max(axis=axes, keepdims=axes is not None) / dtype.max).astype(np.float32)
    scale = np.where(scale == 0, np.float32(1), scale)
    zero = np.zeros((), np.int64)
    return Calibrated(scale, zero, quantize(x, scale, zero, -dtype.max, dtype.max).astype(dtype.numpy))


def _within_one_step(instance: Instance, data: st.DataObject) -> None:
    if not all(dtype_of(x) == F32 for x in instance.operands) or not instance.operands:
        return
    op, per_channel = instance.op, data.draw(st.booleans(), "per channel")
    taken, given = (data.draw(st.sampled_from([I8, I8, I16]), what) for what in ("operands", "result"))
    roles = op.roles([type_of(x) for x in instance.operands])
    symmetric_inputs = any(role.symmetric for role in roles) or data.draw(st.booleans(), "symmetric")
    inputs, operands, arrays, reals = [], [], [], []
    for i, array in enumerate(instance.operands):
        constant = roles[i].is_weight
        if i in instance.constants and not constant:  # a bias or the like stays float
            operands.append(QuantizedOperand(type_of(array), None, np.array(1.0), np.array(0), array))
            reals.append(array)
            continue
        alike = constant or symmetric_inputs
        c = symmetric(array, per_channel, I8 if constant else taken) if alike else asymmetric(array, taken)
        inputs.append(graph_input(f"x{i}", type_of(c.q)))
        real = c.real if constant else None
        operands.append(QuantizedOperand(type_of(array), inputs[-1], c.scale.astype(np.float64), c.zero, real))
        arrays.append(c.q)
        reals.append(c.real)
    expected, *others = reference(op, [widened(x) for x in reals])
    if others:
        return  # the integer form is one value
    if not np.all(np.isfinite(expected)):
        return  # rounding the operand to its scale left the domain, as in log(0): no calibration ends there
    wanted = _wanted(op, expected, symmetric_inputs, given)
    value = integer_form(op, operands, wanted)
    if isinstance(value, Refusal):
        note(f"refused: {value.reason}")
        return
    graph = Graph(inputs, [value], ["y"], "integers")
    note(print_graph(graph)[0])
    verify(graph)
    (actual,) = evaluate(graph, arrays)
    nearest = quantize(expected, np.array(wanted.scale), np.array(wanted.zero), wanted.lo, wanted.hi)
    (error,) = errors(op, reals)
    room = 1 + np.broadcast_to(error / wanted.scale, nearest.shape)
    gap = np.abs(actual.astype(np.int64) - nearest)
    assert np.all(gap <= room), f"{gap.max()} steps away: {actual.tolist()}, nearest is {nearest.tolist()}"


def _wanted(op: Op, expected: Array, symmetric_result: bool, dtype: DType) -> QuantizedResult:
    """What calibration asks for: the op's own scale, or the range of the result."""
    type = TensorType(expected.shape, F32)
    if op.natural_range is not None:
        known = Scheme(dtype).natural(*op.natural_range)
        return QuantizedResult(type, dtype, known.scale, known.zero, known.lo, known.hi)
    c = symmetric(expected, False, dtype) if symmetric_result else asymmetric(expected, dtype)
    return QuantizedResult(type, dtype, float(c.scale), int(c.zero), dtype.min, dtype.max)
