"""Attention: what each row of queries looks up in keys and values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..builder import builder, number
from ..composite import Composite
from ..graph import Value
from ..op import Draw, Instance, expect, op
from ..types import BOOL, F32
from .dense import matmul
from .elementwise import add, mul
from .logic import where
from .shape import transpose
from .softmax import softmax


@op
class Attention(Composite):
    """softmax(scale * q k^T + mask) v. ONNX Attention-23; Vaswani et al. 2017, arXiv:1706.03762.

    q: [..., L, D], k: [..., S, D], v: [..., S, E] -> [..., L, E]: floats of one rank, heads on an axis of their own.
    mask, if there is one, broadcasts to [..., L, S]: floats are added; where a bool is false, `fill` takes the place.
    """

    scale: float = 1.0
    fill: float = -math.inf

    def definition(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> Any:
        rank = q.type.rank
        expect(rank == k.type.rank == v.type.rank >= 2, f"q {q.type}, k {k.type} and v {v.type} differ in rank")
        scaled = q if self.scale == 1 else mul(q, number(q, self.scale))
        scores = matmul(scaled, transpose(k, perm=(*range(rank - 2), rank - 1, rank - 2)))
        return matmul(softmax(scores if mask is None else self._masked(scores, mask)), v)

    def _masked(self, scores: Value, mask: Value) -> Value:
        filled = mask.type.dtype == BOOL
        masked: Value = where(mask, scores, number(scores, self.fill)) if filled else add(scores, mask)
        expect(masked.type.shape == scores.type.shape, f"the mask {mask.type} does not broadcast to {scores.type}")
        return masked

    @staticmethod
    def examples(draw: Draw) -> Instance:
        leading = draw.shape(0, 2, 3)
        rows, columns, depth, width = (draw.integer(1, 4) for _ in range(4))
        shapes = (rows, depth), (columns, depth), (columns, width)
        operands = [draw.array((*leading, *shape), F32, -2, 2) for shape in shapes]
        shape = (*draw.choice([(), leading]), rows if draw.boolean() else 1, columns)
        mask = draw.choice([None, F32, BOOL])
        if mask == BOOL:
            operands.append(np.broadcast_to(np.tri(*shape[-2:], dtype=np.bool_), shape).copy())
        elif mask is not None:
            operands.append(draw.array(shape, F32, -4, 0))
        return Instance.of(Attention(draw.choice([1.0, 0.5, 0.3]), draw.choice([-math.inf, -9.0])), *operands)


attention = builder(Attention)
