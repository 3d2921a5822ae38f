"""Recurrent layers. Each says what one step of one direction computes; all steps of all directions are taken here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..builder import builder
from ..op import Bounds, Cost, Draw, Instance, Op, expect, op, same_dtype, traffic
from ..roles import ACTIVATION, BIAS, Role, weight
from ..rounding import gamma
from ..running_error import Approximate, dot
from ..types import EXACT, F32, Array, Sym, TensorType, static

States = tuple[Any, ...]


@op
class Recurrent(Op):
    """What recurrent layers have in common; H is the size of a state, G the number of gates.

    Operands: x [T,N,I], w [D,G*H,I], r [D,G*H,H], b [D,2*G*H] (of w, then of r), gate after gate, and the states at the
    start, each [D,N,H]. Results: the first state after every step [T,D,N,H], and the last of every state [D,N,H].
    D is 2 where a second direction reads x from its end; `reverse`: the only direction does.
    """

    gates: ClassVar[int]
    states: ClassVar[int]
    ulps: ClassVar[float] = 6  # of the sigmoid
    reverse: bool = False

    def _step(self, x: Any, w: Any, r: Any, b: Any, *states: Any) -> States:
        """The states [N,H] after a step, from x [N,I] and the weights of one direction: arrays or `Approximate`."""
        raise TypeError(f"{type(self).__name__} does not define _step")

    def _infer(
        self, x: TensorType, w: TensorType, r: TensorType, b: TensorType, *states: TensorType
    ) -> tuple[TensorType, ...]:
        what = f"{self.name} takes x [T,N,I] and r [D,{self.gates}H,H], not {x} and {r}"
        expect(x.dtype.is_float and x.rank == r.rank == 3, what)
        (steps, batch, inputs), (directions, _, hidden) = x.shape, r.shape
        if isinstance(directions, Sym) or isinstance(hidden, Sym):
            expect(False, f"the weights {r} must be known")
        assert isinstance(directions, int)
        expect(directions in (1, 2) and not (self.reverse and directions == 2), f"{directions} directions")
        state, rows = (directions, batch, hidden), self.gates * hidden
        shapes = (directions, rows, inputs), (directions, rows, hidden), (directions, 2 * rows)
        for t, shape in zip((w, r, b, *states), (*shapes, *[state] * len(states)), strict=True):
            expect(t.shape == shape, f"{t} is not {list(shape)}")
        dtype = same_dtype(x, w, r, b, *states)
        return TensorType((steps, *state), dtype), *[TensorType(state, dtype)] * len(states)

    def ref(self, *operands: Array) -> States:
        return self._run(operands, operands[0].dtype, lambda computed: computed)

    def error(self, *operands: Array) -> States:
        units = gamma(1, operands[:1]), gamma(2 * self.ulps, operands[:1])
        return self._run([Approximate.exactly(v, *units) for v in operands], np.float64, lambda computed: computed.off)

    def _run(self, operands: Sequence[Any], dtype: Any, shown: Callable[[Any], Array]) -> States:
        """All steps; what is shown of the states becomes the results."""
        x, w, r, b, *start = operands
        steps = range(x.shape[0])
        outputs = np.empty((len(steps), *start[0].shape), dtype)
        last = [np.empty(s.shape, dtype) for s in start]
        for d in range(w.shape[0]):
            states: States = tuple(s[d] for s in start)
            for t in reversed(steps) if self.reverse or d else steps:
                states = self._step(x[t], w[d], r[d], b[d], *states)
                outputs[t, d] = shown(states[0])
            for kept, state in zip(last, states, strict=True):
                kept[d] = shown(state)
        return outputs, *last

    def cost(self, *operands: TensorType) -> Cost:
        x, w, r, *_ = operands
        steps, batch = static(x.shape[:2])
        return traffic(self, operands, macs=steps * batch * (w.size + r.size))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        rows = weight(1, (2,), batch=(0,))
        return ACTIVATION, rows, rows, BIAS, *[ACTIVATION] * self.states

    @classmethod
    def _operands(cls, draw: Draw) -> list[Array]:
        """Weights for one or two directions, and what they suit."""
        steps, batch, inputs, hidden = (draw.integer(1, n) for n in (4, 2, 3, 3))
        directions, rows = draw.integer(1, 2), cls.gates * hidden
        shapes = (steps, batch, inputs), (directions, rows, inputs), (directions, rows, hidden), (directions, 2 * rows)
        states = [(directions, batch, hidden)] * cls.states
        return [draw.array(shape, F32, -2, 2) for shape in (*shapes, *states)]


@op
class Lstm(Recurrent):
    """Long short-term memory. ONNX LSTM-22 with sigmoid and tanh, without peepholes.

    Gates: input, output, forget, cell. States: h, then c.
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, b: TensorType, h: TensorType, c: TensorType
    ) -> tuple[TensorType, ...]:
        return self._infer(x, w, r, b, h, c)

    def _step(self, x: Any, w: Any, r: Any, b: Any, *states: Any) -> States:
        h, c = states
        i, o, f, g = _split(_dot([(x, w), (h, r)], plus=_split(b, 2)), 4)
        cell = _sigmoid(f) * c + _sigmoid(i) * _tanh(g)
        return _sigmoid(o) * _tanh(cell), cell

    def bounds(self, *operands: Bounds) -> tuple[Bounds, ...]:
        hidden, last, cell = self.infer(*(b.type for b in operands))
        h, one = operands[4], np.array(1.0)
        start = np.min(h.lo, initial=0), np.max(h.hi, initial=0)  # without steps the state stays
        return (
            Bounds(hidden, -one, one),
            Bounds(last, np.minimum(start[0], -one), np.maximum(start[1], one)),
            Bounds.top(cell),
        )

    @staticmethod
    def examples(draw: Draw) -> Instance:
        operands = Lstm._operands(draw)
        one = len(operands[1]) == 1
        return Instance.of(Lstm(reverse=one and draw.boolean()), *operands, constants=(1, 2, 3))


@op
class Gru(Recurrent):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078). ONNX GRU-22 with sigmoid and tanh.

    Gates: update, reset, candidate. State: h. reset_after: the reset gate scales the product with the recurrent
    weights, their bias included, as in cuDNN, PyTorch and Keras (ONNX's linear_before_reset); else it scales the state.
    """

    gates: ClassVar[int] = 3
    states: ClassVar[int] = 1
    reset_after: bool = False

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, b: TensorType, h: TensorType
    ) -> tuple[TensorType, ...]:
        return self._infer(x, w, r, b, h)

    def _step(self, x: Any, w: Any, r: Any, b: Any, *states: Any) -> States:
        (h,) = states
        of_w, of_r = _split(b, 2)
        at = 2 * h.shape[-1]  # where the candidate's rows begin
        gates = _dot([(x, w[:at]), (h, r[:at])], plus=[of_w[:at], of_r[:at]])
        update, reset = (_sigmoid(s) for s in _split(gates, 2))
        if self.reset_after:
            recurrent = _dot([(h, r[at:])], plus=[of_r[at:]])
            candidate = _tanh(_dot([(x, w[at:])], plus=[of_w[at:], reset * recurrent]))
        else:
            candidate = _tanh(_dot([(x, w[at:]), (reset * h, r[at:])], plus=[of_w[at:], of_r[at:]]))
        return ((1 - update) * candidate + update * h,)

    def bounds(self, *operands: Bounds) -> tuple[Bounds, ...]:
        """A state lies between the one before and what tanh gives, but for three roundings in each step."""
        types = self.infer(*(b.type for b in operands))
        h, steps = operands[4], types[0].shape[0]
        if isinstance(steps, Sym) or h.type.dtype is EXACT:
            return tuple(map(Bounds.top, types))
        grown = np.exp(min(700.0, steps * gamma(4, [np.empty(0, h.type.dtype.numpy)])))
        lo, hi = np.minimum(np.min(h.lo, initial=0), -1.0) * grown, np.maximum(np.max(h.hi, initial=0), 1.0) * grown
        return tuple(Bounds(t, lo, hi) for t in types)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        operands = Gru._operands(draw)
        one = len(operands[1]) == 1
        gru = Gru(reverse=one and draw.boolean(), reset_after=draw.boolean())
        return Instance.of(gru, *operands, constants=(1, 2, 3))


@op
class Rnn(Recurrent):
    """Plain recurrent layer (Elman 1990): h becomes tanh(x w + h r + b), or what of it is positive. ONNX RNN-22.

    One gate, and the state h.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    relu: bool = False

    def infer(
        self, x: TensorType, w: TensorType, r: TensorType, b: TensorType, h: TensorType
    ) -> tuple[TensorType, ...]:
        return self._infer(x, w, r, b, h)

    def _step(self, x: Any, w: Any, r: Any, b: Any, *states: Any) -> States:
        total = _dot([(x, w), (states[0], r)], plus=_split(b, 2))
        return (_relu(total) if self.relu else _tanh(total),)

    def bounds(self, *operands: Bounds) -> tuple[Bounds, ...]:
        types = self.infer(*(b.type for b in operands))
        lo, hi = (0.0, np.inf) if self.relu else (-1.0, 1.0)
        h = operands[4]
        last = np.minimum(np.min(h.lo, initial=lo), lo), np.maximum(np.max(h.hi, initial=hi), hi)
        return Bounds(types[0], np.array(lo), np.array(hi)), Bounds(types[1], *last)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        operands = Rnn._operands(draw)
        one = len(operands[1]) == 1
        rnn = Rnn(reverse=one and draw.boolean(), relu=draw.boolean())
        return Instance.of(rnn, *operands, constants=(1, 2, 3))


def _split(x: Any, count: int) -> list[Any]:
    """Parts of the last axis."""
    size = x.shape[-1] // count
    return [x[..., i * size : (i + 1) * size] for i in range(count)]


def _dot(products: Sequence[tuple[Any, Any]], plus: Sequence[Any]) -> Any:
    """The sum of all `a @ b.T` and of what is added."""
    if isinstance(plus[0], Approximate):
        return dot(products, plus)
    return sum((a @ b.T for a, b in products[1:]), products[0][0] @ products[0][1].T) + sum(plus[1:], plus[0])


def _sigmoid(x: Any) -> Any:
    return x.sigmoid() if isinstance(x, Approximate) else 1 / (1 + np.exp(-x))


def _tanh(x: Any) -> Any:
    return x.tanh() if isinstance(x, Approximate) else np.tanh(x)


def _relu(x: Any) -> Any:
    return x.relu() if isinstance(x, Approximate) else np.maximum(x, x.dtype.type(0))


lstm = builder(Lstm)
gru = builder(Gru)
rnn = builder(Rnn)
