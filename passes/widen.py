"""Floats of 16 bits become float32, for targets that have none: C99 on a microcontroller."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.constant import Const
from ..ir.graph import Graph, Value
from ..ir.op import Op
from ..ir.types import BF16, F16, F32, DType, TensorType, dtype_of
from ..runtime.contracts import APPROXIMATE, Contract
from .base import Changes, Context, Pass


@dataclass(frozen=True)
class Widen(Pass):
    """Make every float of 16 bits a float32: inputs, outputs, constants, and what is computed between.

    Results are those of the 16-bit model, rounded less often, and what overflowed there does not here. Constants take
    twice the memory; quantize the model to get it back.
    """

    contract: ClassVar[Contract] = APPROXIMATE

    def run(self, graph: Graph, context: Context) -> Changes:
        changes, found = Changes(), Counter[str]()
        for value in graph.inputs:
            self._value(value, found)
        for node in graph.nodes:
            node.op = self._op(node.op)
            for value in node.results:
                self._value(value, found)
        changes.count("widened", found.total())
        if found:
            halves = " and ".join(sorted(found))
            changes.facts["widened"] = dict(found)
            context.notes.append(f"{halves} became f32, inputs and outputs too: there are no 16-bit floats here")
        return changes

    def _value(self, value: Value, found: Counter[str]) -> None:
        if value.type.dtype in (F16, BF16):
            found[str(value.type.dtype)] += 1
            value.type = self._type(value.type)

    def _type(self, type: TensorType) -> TensorType:
        return type.with_dtype(F32)

    def _op(self, op: Op) -> Op:
        """The op with float32 wherever it names a dtype, or holds an array."""
        if isinstance(op, Const):
            return Const(op.data.astype(np.float32)) if dtype_of(op.data) in (F16, BF16) else op
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(op):
            value = getattr(op, field.name)
            if isinstance(value, DType) and value in (F16, BF16):
                changes[field.name] = F32
            elif isinstance(value, Graph) and any(_is_half(v) for n in value.nodes for v in n.results):
                body = value.clone()
                self.run(body, Context())
                changes[field.name] = body
        return op.like(**changes) if changes else op


def _is_half(value: Value) -> bool:
    return value.type.dtype in (F16, BF16)
