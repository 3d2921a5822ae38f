"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..builder import builder
from ..op import Bounds, Cost, Draw, Instance, Op, expect, gamma, op, same_dtype, traffic
from ..types import F32, Array, Sym, TensorType

Triple = tuple[Array, Array, Array]


@op
class Lstm(Op):
    """Long short-term memory, one direction or two. ONNX LSTM-22 with sigmoid and tanh, without peepholes.

    x: [T,N,I], w: [D,4H,I], r: [D,4H,H], b: [D,8H] (of w, then of r), h: [D,N,H], c: [D,N,H] at the start; gates in
    the order input, output, forget, cell. Gives all h [T,D,N,H], the last h [D,N,H] and the last c [D,N,H].
    D is 2 where a second direction reads x from its end; `reverse`: the only direction does.
    """

    ulps: ClassVar[float] = 6  # of the sigmoid
    reverse: bool = False

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, b: TensorType, h: TensorType, c: TensorType
    ) -> tuple[TensorType, TensorType, TensorType]:
        expect(x.dtype.is_float and x.rank == r.rank == 3, f"lstm takes x [T,N,I] and r [D,4H,H], not {x} and {r}")
        (steps, batch, inputs), (directions, _, hidden) = x.shape, r.shape
        if isinstance(directions, Sym) or isinstance(hidden, Sym):
            expect(False, f"the weights {r} must be known")
        assert isinstance(directions, int)
        expect(directions in (1, 2) and not (self.reverse and directions == 2), f"{directions} directions")
        state = (directions, batch, hidden)
        shapes = (directions, 4 * hidden, inputs), (directions, 4 * hidden, hidden), (directions, 8 * hidden)
        for t, shape in zip((w, r, b, h, c), (*shapes, state, state), strict=True):
            expect(t.shape == shape, f"{t} is not {list(shape)}")
        dtype = same_dtype(x, w, r, b, h, c)
        return TensorType((steps, *state), dtype), TensorType(state, dtype), TensorType(state, dtype)

    def ref(self, x: Array, w: Array, r: Array, b: Array, h: Array, c: Array) -> Triple:
        return self._run((x, w, r, b, h, c), None)[0]

    def error(self, x: Array, w: Array, r: Array, b: Array, h: Array, c: Array) -> Triple:
        # Beside the values, in float64: a sigmoid shrinks its operand's error to a quarter, tanh does not enlarge it.
        wide = [v.astype(np.float64) for v in (x, w, r, b, h, c)]
        terms = x.shape[-1] + h.shape[-1] + 3
        return self._run(wide, (gamma(terms, (x,)), gamma(2 * self.ulps, (x,))))[1]

    def _run(self, operands: Sequence[Array], units: tuple[float, float] | None) -> tuple[Triple, Triple]:
        """The results, and bounds of their errors where `units` (of the sums, of the functions) are given."""
        x, w, r, b, h, c = operands
        directions, hidden = w.shape[0], r.shape[-1]
        outputs = np.empty((x.shape[0], *h.shape), x.dtype)
        errors = np.zeros(outputs.shape)
        last, slack = (np.array(h), np.array(c)), (np.zeros(h.shape), np.zeros(c.shape))
        for d in range(directions):
            steps = range(x.shape[0])
            bias = b[d, : 4 * hidden] + b[d, 4 * hidden :]
            state, doubt = (h[d], c[d]), (slack[0][d], slack[1][d])
            for t in reversed(steps) if self.reverse or d else steps:
                sums = np.matmul(x[t], w[d].T) + np.matmul(state[0], r[d].T) + bias
                if units is not None:
                    size = np.abs(x[t]) @ np.abs(w[d]).T + (np.abs(state[0]) + doubt[0]) @ np.abs(r[d]).T
                    off = units[0] * (size + np.abs(b[d]).reshape(2, -1).sum(0)) + doubt[0] @ np.abs(r[d]).T
                    doubt = _doubt(sums, off, state[1], doubt[1], units[1])
                state = _cell(sums, state[1])
                outputs[t, d], errors[t, d] = state[0], doubt[0]
            for kept, new in zip((*last, *slack), (*state, *doubt), strict=True):
                kept[d] = new
        return (outputs, *last), (errors, *slack)

    def cost(self, x: TensorType, w: TensorType, r: TensorType, b: TensorType, h: TensorType, c: TensorType) -> Cost:
        steps, batch = int(x.shape[0]), int(x.shape[1])  # type: ignore[arg-type]
        return traffic(self, (x, w, r, b, h, c), macs=steps * batch * (w.size + r.size))

    def bounds(self, x: Bounds, w: Bounds, r: Bounds, b: Bounds, h: Bounds, c: Bounds) -> tuple[Bounds, ...]:
        hidden, last, cell = self.infer(x.type, w.type, r.type, b.type, h.type, c.type)
        one = np.array(1.0)
        start = np.min(h.lo, initial=0), np.max(h.hi, initial=0)  # without steps the state stays
        return (
            Bounds(hidden, -one, one),
            Bounds(last, np.minimum(start[0], -one), np.maximum(start[1], one)),
            Bounds.top(cell),
        )

    @staticmethod
    def examples(draw: Draw) -> Instance:
        steps, batch, inputs, hidden = (draw.integer(1, n) for n in (4, 2, 3, 3))
        directions = draw.integer(1, 2)
        shapes = (steps, batch, inputs), (directions, 4 * hidden, inputs), (directions, 4 * hidden, hidden)
        states = (directions, 8 * hidden), (directions, batch, hidden), (directions, batch, hidden)
        operands = [draw.array(shape, F32, -2, 2) for shape in (*shapes, *states)]
        return Instance.of(Lstm(directions == 1 and draw.boolean()), *operands, constants=(1, 2, 3))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _cell(sums: Array, c: Array) -> tuple[Array, Array]:
    """Hidden and cell state after one step, from the gates' sums [N,4H] and the cell state before."""
    i, o, f, g = np.split(sums, 4, axis=-1)
    cell = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(cell), cell


def _doubt(sums: Array, off: Array, c: Array, c_off: Array, unit: float) -> tuple[Array, Array]:
    """Errors of `_cell` when its operands are off by so much and each function errs by `unit` relatively."""
    i, o, f, g = np.split(sums, 4, axis=-1)
    di, do, df, dg = np.split(off, 4, axis=-1)
    rounding = 3 * float(np.finfo(np.float32).eps)
    ei, eo, ef = di / 4 + unit, do / 4 + unit, df / 4 + unit
    eg = dg + unit
    cell = _cell(sums, c)[1]
    size = _sigmoid(f) * np.abs(c) + _sigmoid(i) * np.abs(np.tanh(g))
    e_cell = (_sigmoid(f) + ef) * c_off + ef * np.abs(c) + (_sigmoid(i) + ei) * eg + ei * np.abs(np.tanh(g))
    e_cell = e_cell + rounding * (size + e_cell)
    e_tanh = e_cell + unit
    return (_sigmoid(o) + eo) * e_tanh + eo * np.abs(np.tanh(cell)) + rounding, e_cell


lstm = builder(Lstm)
